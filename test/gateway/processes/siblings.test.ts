import { describe, expect, test } from 'vitest'
import { SiblingChangeFeed } from '../../../packages/gateway/src/processes/sibling-change-feed.ts'
import type { Downward } from '../../../packages/gateway/src/processes/sibling-messages.ts'
import { SiblingRelay } from '../../../packages/gateway/src/processes/sibling-relay.ts'
import { Siblings } from '../../../packages/gateway/src/processes/siblings.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { describeChangeFeed } from '../catalogue/change-feed-conformance.ts'

/** So many processes of one gateway without processes, joined by the real relay. */
function family(count: number) {
  const clock = new ManualClock()
  const relay = new SiblingRelay()
  const members = Array.from({ length: count }, (_, slot) => {
    let listener: (message: unknown) => void = () => {}
    const siblings = new Siblings(
      { slot, count },
      {
        send: (message) => {
          if (message.kind !== 'ready') queueMicrotask(() => relay.carry(slot, message))
        },
        listen: (heard) => {
          listener = heard
        },
      },
      clock,
    )
    relay.join(slot, (message: Downward) => queueMicrotask(() => listener(structuredClone(message))))
    return siblings
  })
  const at = (slot: number): Siblings => {
    const found = members[slot]
    if (found === undefined) throw new Error(`there is no process ${slot}`)
    return found
  }
  return { at, clock, relay }
}

describeChangeFeed('SiblingChangeFeed', async () => {
  const { at } = family(2)
  return [new BothWays(new SiblingChangeFeed(at(0))), new BothWays(new SiblingChangeFeed(at(1)))]
})

/** The conformance begins by hearing itself, which siblings need not: the writer's own catalogue has the change. */
class BothWays {
  readonly #feed: SiblingChangeFeed
  readonly #own = new Set<Parameters<SiblingChangeFeed['subscribe']>[0]>()

  constructor(feed: SiblingChangeFeed) {
    this.#feed = feed
  }

  async announce(name: string): Promise<void> {
    for (const { onChange } of this.#own) void onChange(name)
    await this.#feed.announce(name)
  }

  subscribe(subscriber: Parameters<SiblingChangeFeed['subscribe']>[0]): () => void {
    this.#own.add(subscriber)
    const end = this.#feed.subscribe(subscriber)
    return () => {
      this.#own.delete(subscriber)
      end()
    }
  }
}

describe('a question', () => {
  test('is answered by every other process that knows of it, or by the first alone', async () => {
    const { at } = family(3)
    for (const slot of [0, 1, 2]) at(slot).answer('who', () => slot)
    expect((await at(1).ask('who', undefined)).toSorted()).toEqual([0, 2])
    expect(await at(2).ask('who', undefined, 'first')).toEqual([0])
    expect(await at(0).ask('what', undefined)).toEqual([])
  })

  test('of which one cannot be answered, or is answered too late, has the other answers', async () => {
    const { at, clock } = family(3)
    at(1).answer('who', () => {
      throw new Error('no')
    })
    at(2).answer('who', () => 2)
    expect(await at(0).ask('who', undefined)).toEqual([2])
    at(1).answer('who', () => new Promise(() => {}))
    const asked = at(0).ask('who', undefined)
    for (let turn = 0; turn < 20; turn++) await Promise.resolve()
    clock.advance(1_000)
    expect(await asked).toEqual([2])
  })

  test('is not put to a process that has gone', async () => {
    const { at, relay } = family(2)
    at(1).answer('who', () => 1)
    relay.leave(1)
    expect(await at(0).ask('who', undefined)).toEqual([])
  })
})

test('a change is announced when the others have looked at it', async () => {
  const { at } = family(2)
  const [here, there] = [new SiblingChangeFeed(at(0)), new SiblingChangeFeed(at(1))]
  const looked = Promise.withResolvers<void>()
  let isAnnounced = false
  there.subscribe({ onChange: () => looked.promise, onGap: () => {} })
  const announced = here.announce('a').then(() => {
    isAnnounced = true
  })
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
  expect(isAnnounced).toBe(false)
  looked.resolve()
  await announced
})
