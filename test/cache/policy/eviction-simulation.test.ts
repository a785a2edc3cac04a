/**
 * Traffic as it is: a few adapters are asked for all the time, most of them rarely (Zipf), and now and then somebody reads
 * through very many that nobody asks for again. Loads are counted, as a stand-in for what requests wait for.
 */
import type { SlotView } from '@quiver/cache'
import type { SlotIndex } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { describe, expect, it } from 'vitest'
import { EvictionPolicy } from '../../../packages/cache/src/policy/eviction-policy.ts'
import { RamTier } from '../../../packages/cache/src/tiers/ram-tier.ts'
import { SlotTable } from '../../../packages/worker/src/step/slot-table.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { digestFor, hollowAdapter } from '../../support/packed-adapters.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

const REGULARS = 200
const REQUESTS = 3000
const PLACES = 40
const BYTES = 1024 * 1024
const BETWEEN_MS = 200

/** Names in the order in which they are asked for. */
function traffic(seed: number, scanEvery: number): string[] {
  const random = randomFrom(seed)
  const weights = Array.from({ length: REGULARS }, (_, rank) => 1 / (rank + 1))
  const upTo = weights.map((_, rank) => weights.slice(0, rank + 1).reduce((sum, weight) => sum + weight, 0))
  const draw = (): string => {
    const drawn = random() * (upTo.at(-1) ?? 0)
    return `regular-${upTo.findIndex((sum) => drawn < sum)}`
  }
  return Array.from({ length: REQUESTS }, (_, at) => {
    const scan = [draw()]
    if (at % scanEvery === scanEvery - 1) for (let i = 0; i < 2 * PLACES; i += 1) scan.push(`scanned-${at}-${i}`)
    return scan
  }).flat()
}

interface Outcome {
  readonly loads: number
  /** Of adapters that nobody reads through. */
  readonly regularLoads: number
}

function inRam(names: readonly string[]): Outcome {
  const clock = new ManualClock()
  const policy = new EvictionPolicy(clock)
  const tier = new RamTier(PLACES * BYTES, ({ digest, bytes }) => policy.score({ digest, bytes, from: 'disk', space: bytes }))
  return countLoads(names, (name) => {
    clock.advance(BETWEEN_MS)
    const digest = digestFor(name)
    policy.noteUse(digest)
    const isHere = tier.hold(digest) !== undefined
    if (!isHere) tier.holdNew(hollowAdapter(name, BYTES))
    tier.drop(digest)
    return isHere
  })
}

/** The slots as the step planner fills them: one request at a time, each for as long as its step takes. */
function inSlots(names: readonly string[]): Outcome {
  const clock = new ManualClock()
  const policy = new EvictionPolicy(clock)
  const slots: SlotView[] = Array.from({ length: PLACES }, (_, slot) => ({
    state: 'free',
    slot: slot as SlotIndex,
    generation: 0,
  }))
  return countLoads(names, (name) => {
    clock.advance(BETWEEN_MS)
    const digest = digestFor(name)
    policy.noteUse(digest)
    const views = slots.map((view) =>
      view.state === 'resident'
        ? { ...view, keepScore: policy.score({ digest: view.digest, bytes: BYTES, from: 'ram', space: 1 }) }
        : view,
    )
    const answer = new SlotTable(views, [digest]).ask(digest, true)
    if (answer.kind === 'wait') throw new Error('nothing is in use, so nobody waits')
    const { slot, generation } = answer
    const lastUsedMs = clock.nowMs()
    slots[slot] = { state: 'resident', slot, generation: generation + 1, digest, leaseCount: 0, lastUsedMs, keepScore: 0 }
    return answer.kind === 'use'
  })
}

function leastRecentlyUsed(names: readonly string[]): Outcome {
  const cache = new LRUCache<string, true>({ max: PLACES })
  return countLoads(names, (name) => {
    const isHere = cache.get(name) === true
    cache.set(name, true)
    return isHere
  })
}

function countLoads(names: readonly string[], ask: (name: string) => boolean): Outcome {
  let [loads, regularLoads] = [0, 0]
  for (const name of names) {
    if (ask(name)) continue
    loads += 1
    if (name.startsWith('regular')) regularLoads += 1
  }
  return { loads, regularLoads }
}

describe('under Zipf traffic with scans', () => {
  it.each([
    ['RAM', inRam],
    ['slots', inSlots],
  ] as const)('the %s tier loads regulars far less often than least recently used would', (_, ours) => {
    const seed = randomSeed('Zipf with scans')
    const names = traffic(seed, 60)
    const [mine, lru] = [ours(names), leastRecentlyUsed(names)]
    expect(mine.regularLoads).toBeLessThan(0.7 * lru.regularLoads)
    expect(mine.loads).toBeLessThan(lru.loads)
  })

  it('and without scans it is not worse', () => {
    const names = traffic(randomSeed('Zipf alone'), Number.POSITIVE_INFINITY)
    for (const ours of [inRam, inSlots]) expect(ours(names).loads).toBeLessThan(leastRecentlyUsed(names).loads)
  })

  it('the same requests at the same times cause the same loads', () => {
    const names = traffic(1, 60)
    for (const ours of [inRam, inSlots]) expect(ours(names)).toEqual(ours(names))
  })

  it('T05: a scan of any length leaves every hot adapter where it is', () => {
    const clock = new ManualClock()
    const policy = new EvictionPolicy(clock)
    const tier = new RamTier(PLACES * BYTES, ({ digest, bytes }) => policy.score({ digest, bytes, from: 'disk', space: bytes }))
    const ask = (name: string): void => {
      clock.advance(BETWEEN_MS)
      policy.noteUse(digestFor(name))
      if (tier.hold(digestFor(name)) === undefined) tier.holdNew(hollowAdapter(name, BYTES))
      tier.drop(digestFor(name))
    }
    const hot = Array.from({ length: PLACES - 1 }, (_, index) => `hot-${index}`)
    for (let round = 0; round < 3; round += 1) for (const name of hot) ask(name)
    for (let i = 0; i < 1000; i += 1) ask(`cold-${i}`)
    expect(hot.filter((name) => tier.peek(digestFor(name)) === undefined)).toEqual([])
  })

  it('what was hot gives way in the end: an hour without use is worth less than one use now', () => {
    const clock = new ManualClock()
    const policy = new EvictionPolicy(clock)
    const kept = (name: string): number => policy.score({ digest: digestFor(name), bytes: BYTES, from: 'disk', space: BYTES })
    for (let i = 0; i < 30; i += 1) policy.noteUse(digestFor('yesterday'))
    clock.advance(3_600_000)
    policy.noteUse(digestFor('today'))
    expect(kept('today')).toBeGreaterThan(kept('yesterday'))
  })

  it('of two asked for alike, the one that is dearer to bring back stays', () => {
    const policy = new EvictionPolicy(new ManualClock())
    for (const name of ['a', 'b']) policy.noteUse(digestFor(name))
    const kept = (name: string, from: 'ram' | 'disk' | 'origin' | 'merge', bytes = BYTES): number =>
      policy.score({ digest: digestFor(name), bytes, from, space: bytes })
    expect(kept('a', 'disk')).toBeGreaterThan(kept('b', 'ram'))
    expect(kept('a', 'origin')).toBeGreaterThan(kept('b', 'disk'))
    expect(kept('a', 'merge')).toBeGreaterThan(kept('b', 'origin'))
    // The same cost by itself weighs more, the smaller the adapter.
    expect(kept('a', 'origin', BYTES / 8)).toBeGreaterThan(kept('b', 'origin', BYTES))
    const before = kept('a', 'disk')
    for (let i = 0; i < 20; i += 1) policy.noteReload('disk', BYTES, 200)
    expect(kept('a', 'disk')).toBeGreaterThan(before)
  })
})
