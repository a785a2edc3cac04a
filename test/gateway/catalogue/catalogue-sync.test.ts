import { type Catalogue, CatalogueSync } from '@quiver/gateway'
import { ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { MemoryChangeFeed } from '../../../packages/gateway/src/catalogue/change-feed.ts'
import { freshCatalogue, publishTo } from '../../support/catalogues.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const turns = async () => {
  for (let n = 0; n < 20; n++) await new Promise((resolve) => setImmediate(resolve))
}

async function setUp(inner = new MemoryStore()) {
  const state = { isDown: false }
  const lists: string[] = []
  const store = new HookedStore(inner, {
    async list(prefix) {
      lists.push(prefix)
      if (state.isDown) throw new ServingError('source_unavailable', 'down')
    },
  })
  const clock = new ManualClock()
  const feed = new MemoryChangeFeed()
  const catalogue = await freshCatalogue(store, { feed })
  const lines: string[] = []
  const log = (_level: unknown, message: string) => void lines.push(message)
  const sync = new CatalogueSync({ catalogue, clock, random: () => 0.5, log, feed, refreshMs: 1000 })
  lists.length = 0
  return { inner, state, lists, store, clock, feed, catalogue, lines, sync }
}
const version = (catalogue: Catalogue) => catalogue.find('a').manifest.version

test('another process’s change is seen when the feed tells of it, by looking at that name alone', async () => {
  const { inner, lists, feed, catalogue, sync } = await setUp()
  sync.start()
  await publishTo(inner, await freshCatalogue(inner, { feed }), 'a', 1)
  await turns()
  expect(version(catalogue)).toBe(1)
  expect(new Set(lists)).toEqual(new Set(['catalogue/a/']))
  sync.close()
})

test('R03 what the feed did not tell is seen at the next look at everything, and a gap asks for one at once', async () => {
  const { inner, clock, feed, catalogue, sync } = await setUp()
  let gap = () => {}
  feed.subscribe = ({ onGap }) => {
    gap = onGap
    return () => {}
  }
  sync.start()
  const silent = await freshCatalogue(inner)
  await publishTo(inner, silent, 'a', 1)
  clock.advance(1000)
  await turns()
  expect(version(catalogue)).toBe(1)
  await publishTo(inner, silent, 'a', 2)
  gap()
  await turns()
  expect(version(catalogue)).toBe(2)
  sync.close()
})

test('the store’s absence is logged once, marked with its length and ends with one line', async () => {
  const { inner, state, clock, catalogue, lines, sync } = await setUp()
  sync.start()
  await publishTo(inner, catalogue, 'a', 1)
  state.isDown = true
  for (let n = 0; n < 3; n++) {
    clock.advance(1000)
    await turns()
  }
  expect([lines.length, sync.staleMs(), version(catalogue)]).toEqual([1, 2000, 1])
  state.isDown = false
  clock.advance(1000)
  await turns()
  expect([lines.length, sync.staleMs()]).toEqual([2, 0])
  sync.close()
})

describe('R09 a feed', () => {
  test('that says what is no name is not listened to, and one that says too much is one look at everything', async () => {
    const { lists, feed, sync } = await setUp()
    sync.start()
    for (const text of ['', '../x', '{"v":2}', 'a b']) await feed.announce(text)
    await turns()
    expect(lists).toEqual([])
    for (let n = 0; n < 2000; n++) void feed.announce(`a${n}`)
    await turns()
    // The first look had begun when the others came.
    expect(lists).toEqual(['catalogue/a0/', 'catalogue/'])
    sync.close()
  })
})

test('nothing is looked at after the end', async () => {
  const { lists, clock, feed, sync } = await setUp()
  sync.start()
  sync.close()
  clock.advance(10_000)
  await feed.announce('a')
  await turns()
  expect([lists, clock.pending]).toEqual([[], 0])
})

// The end of the work was noted a moment after its last look: who came between them was told to wait for work that was over.
test('a change that comes in any moment of another one’s look is looked at', async () => {
  for (let moment = 0; moment < 30; moment++) {
    const feed = new MemoryChangeFeed()
    const looked: string[] = []
    const nothing = { read: 0, removed: 0, problems: [] }
    const refreshName = async (name: string) => {
      looked.push(name)
      return nothing
    }
    const catalogue = { refresh: async () => nothing, refreshName }
    const sync = new CatalogueSync({
      catalogue,
      clock: new ManualClock(),
      random: () => 0.5,
      log: () => {},
      feed,
      refreshMs: 1000,
    })
    sync.start()
    void feed.announce('first')
    for (let n = 0; n < moment; n++) await Promise.resolve()
    void feed.announce('second')
    await turns()
    expect(looked, `after ${moment} microtasks`).toEqual(['first', 'second'])
    sync.close()
  }
})
