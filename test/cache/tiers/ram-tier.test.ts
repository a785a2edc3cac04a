import { describe, expect, it } from 'vitest'
import { RamTier } from '../../../packages/cache/src/tiers/ram-tier.ts'
import { digestFor, hollowAdapter } from '../../support/packed-adapters.ts'

const keep = (tier: RamTier, name: string, bytes: number): void => {
  tier.holdNew(hollowAdapter(name, bytes))
  tier.drop(digestFor(name))
}

describe('the RAM tier', () => {
  it('evicts the least recently used adapter when the budget is exceeded', () => {
    const tier = new RamTier(100, () => 0)
    for (const name of ['a', 'b']) keep(tier, name, 40)
    tier.hold(digestFor('a'))
    tier.drop(digestFor('a'))
    keep(tier, 'c', 40)
    expect([...'abc'].map((name) => tier.peek(digestFor(name)) !== undefined)).toEqual([true, false, true])
    expect(tier.bytes).toBe(80)
  })

  it('W12 never evicts an adapter that is held, even above the budget', () => {
    const tier = new RamTier(100, () => 0)
    for (const name of ['a', 'b', 'c']) tier.holdNew(hollowAdapter(name, 60))
    expect(tier.heldBytes).toBe(180)
    expect([...'abc'].map((name) => tier.peek(digestFor(name))?.count)).toEqual([1, 1, 1])
    tier.drop(digestFor('a'))
    expect(tier.peek(digestFor('a'))).toBeUndefined()
    expect(tier.bytes).toBe(120)
  })

  it('keeps an adapter until the last of several holds ends', () => {
    const tier = new RamTier(50, () => 0)
    tier.holdNew(hollowAdapter('a', 40))
    expect(tier.hold(digestFor('a'))?.bytes).toBe(40)
    tier.drop(digestFor('a'))
    keep(tier, 'b', 40)
    expect([tier.peek(digestFor('a'))?.count, tier.peek(digestFor('b'))]).toEqual([1, undefined])
    tier.drop(digestFor('a'))
    expect(tier.peek(digestFor('a'))?.count).toBe(0)
  })

  it('does not keep an adapter that is larger than the whole budget once it is idle', () => {
    const tier = new RamTier(50, () => 0)
    keep(tier, 'a', 60)
    expect([tier.peek(digestFor('a')), tier.bytes]).toEqual([undefined, 0])
  })

  it('refuses to drop what is not held', () => {
    const tier = new RamTier(50, () => 0)
    keep(tier, 'a', 10)
    expect(() => tier.drop(digestFor('a'))).toThrow(/only what is held/)
  })
})
