/**
 * Traffic as it is: a few adapters are asked for all the time, most of them rarely (Zipf), and now and then somebody reads
 * through very many that nobody asks for again. Loads are counted, as a stand-in for what requests wait for.
 */
import type { SlotIndex } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import type { SlotView } from '../../packages/cache/src/index.ts'
import { EvictionPolicy } from '../../packages/cache/src/policy/eviction-policy.ts'
import { RamTier } from '../../packages/cache/src/tiers/ram-tier.ts'
import { SlotTable } from '../../packages/worker/src/step/slot-table.ts'
import { ManualClock } from './manual-clock.ts'
import { digestFor, hollowAdapter } from './packed-adapters.ts'
import { randomFrom } from './random-seed.ts'

const REGULARS = 200
const REQUESTS = 3000
/** Adapters that fit in. */
export const PLACES = 40
export const BYTES = 1024 * 1024
export const BETWEEN_MS = 200

/** Names in the order in which they are asked for: a scan after every `scanEvery` requests. */
export function traffic(seed: number, scanEvery: number): string[] {
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

export interface Outcome {
  readonly loads: number
  /** Of adapters that nobody reads through. */
  readonly regularLoads: number
}

/** The RAM tier with the cache's policy. */
export function inRam(names: readonly string[]): Outcome {
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
export function inSlots(names: readonly string[]): Outcome {
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

/** What everybody would do without thinking. */
export function leastRecentlyUsed(names: readonly string[]): Outcome {
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
