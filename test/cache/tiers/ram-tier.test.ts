import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RamTier } from '../../../packages/cache/src/tiers/ram-tier.ts'
import { digestFor, hollowAdapter } from '../../support/packed-adapters.ts'
import { randomSeed } from '../../support/random-seed.ts'

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

  it('evicts the least worth keeping first, whatever was used last', () => {
    const worth: Record<string, number> = { a: 3, b: 1, c: 2 }
    const tier = new RamTier(120, ({ digest }) => Object.entries(worth).find(([name]) => digestFor(name) === digest)?.[1] ?? 0)
    for (const name of ['b', 'c', 'a']) keep(tier, name, 40)
    tier.hold(digestFor('b'))
    tier.drop(digestFor('b'))
    worth['d'] = 9
    keep(tier, 'd', 40)
    expect([...'abcd'].map((name) => tier.peek(digestFor(name)) !== undefined)).toEqual([true, false, true, true])
    // Newcomers that are worth less than everything else push each other out: they need one place between them.
    for (const name of ['e', 'f', 'g']) keep(tier, name, 40)
    expect([...'acdefg'].map((name) => tier.peek(digestFor(name)) !== undefined)).toEqual([true, false, true, false, false, true])
  })

  it('holds less than its budget while it is limited, and never more', () => {
    const tier = new RamTier(100, () => 0)
    for (const name of ['a', 'b']) keep(tier, name, 40)
    tier.limit(50)
    expect([tier.bytes, tier.budgetBytes, tier.usage.evicted]).toEqual([40, 50, 1])
    tier.limit(1000)
    expect(tier.budgetBytes).toBe(100)
    tier.limit(-5)
    expect([tier.bytes, tier.budgetBytes]).toEqual([0, 1])
  })

  it('keeps its books under any use: nothing held leaves, and idle ones fit beside it', () => {
    const names = [...'abcdef']
    const command = fc.tuple(fc.constantFrom('hold', 'hold', 'drop', 'limit'), fc.nat(5), fc.integer({ min: 1, max: 200 }))
    const seed = randomSeed('RAM tier')
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const tier = new RamTier(150, ({ bytes }) => bytes % 7)
        const held = new Map<string, number>()
        for (const [kind, index, bytes] of commands) {
          const name = names[index] ?? 'a'
          const count = held.get(name) ?? 0
          if (kind === 'limit') tier.limit(bytes)
          else if (kind === 'drop' && count > 0) {
            tier.drop(digestFor(name))
            held.set(name, count - 1)
          } else if (kind === 'hold') {
            if (tier.hold(digestFor(name)) === undefined) tier.holdNew(hollowAdapter(name, bytes))
            held.set(name, count + 1)
          }
          for (const [one, expected] of held) if (expected > 0) expect(tier.peek(digestFor(one))?.count).toBe(expected)
          expect(tier.bytes <= tier.budgetBytes || tier.bytes === tier.heldBytes).toBe(true)
          const sum = [...tier.digests()].reduce((total, digest) => total + (tier.peek(digest)?.packed.bytes ?? 0), 0)
          expect(sum).toBe(tier.bytes)
        }
      }),
      { seed },
    )
    expect(seed).toBeDefined()
  })
})
