import { describe, expect, it } from 'vitest'
import type { ChangeFeed } from '../../../packages/gateway/src/catalogue/change-feed.ts'

/** What every feed promises while it can be reached. `open` gives the feeds of two processes that belong together. */
export function describeChangeFeed(name: string, open: () => Promise<readonly [ChangeFeed, ChangeFeed]>): void {
  describe(`${name} as a change feed`, () => {
    it('tells other processes which names changed, in order', async () => {
      const [here, there] = await open()
      const heard = await listen(there)
      for (const changed of ['a', 'acme/b', 'c']) await here.announce(changed)
      expect(await heard.take(3)).toEqual(['a', 'acme/b', 'c'])
      heard.stop()
    })

    it('tells every subscriber, and none that has left', async () => {
      const [here, there] = await open()
      const [stays, leaves] = [await listen(there), await listen(there)]
      leaves.stop()
      const other = await listen(here)
      await here.announce('a')
      expect([await stays.take(1), await other.take(1)]).toEqual([['a'], ['a']])
      expect(leaves.heard).toEqual([])
      stays.stop()
      other.stop()
    })
  })
}

/** Subscribes, and resolves when the subscription is heard: a feed may take a moment to begin and has no other sign of it. */
async function listen(feed: ChangeFeed) {
  const probe = '(begin)'
  const heard: string[] = []
  let wake = () => {}
  const begun = Promise.withResolvers<void>()
  const stop = feed.subscribe({
    onChange(name) {
      if (name === probe) begun.resolve()
      else heard.push(name)
      wake()
    },
    onGap: () => void feed.announce(probe),
  })
  await feed.announce(probe)
  await begun.promise
  return {
    heard,
    stop,
    async take(count: number) {
      while (heard.length < count) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      return heard.slice(0, count)
    },
  }
}
