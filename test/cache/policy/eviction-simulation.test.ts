/** The policy against least recently used, under test/support/eviction-simulation.ts's traffic. */
import { describe, expect, it } from 'vitest'
import { EvictionPolicy } from '../../../packages/cache/src/policy/eviction-policy.ts'
import { RamTier } from '../../../packages/cache/src/tiers/ram-tier.ts'
import { BETWEEN_MS, BYTES, inRam, inSlots, leastRecentlyUsed, PLACES, traffic } from '../../support/eviction-simulation.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { digestFor, hollowAdapter } from '../../support/packed-adapters.ts'
import { randomSeed } from '../../support/random-seed.ts'

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
