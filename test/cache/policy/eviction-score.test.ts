import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { keepScore, type Use, usedAgain } from '../../../packages/cache/src/policy/eviction-score.ts'
import { randomSeed } from '../../support/random-seed.ts'

const HALF_LIFE = 1000
const even = { reloadMs: 10, space: 1000 }
/** Used at these times, in order. */
const usesAt = (...times: readonly number[]): Use | undefined =>
  times.reduce<Use | undefined>((use, atMs) => usedAgain(use, atMs, HALF_LIFE), undefined)
const score = (use: Use | undefined, stake = even): number => keepScore(use, stake, HALF_LIFE)

describe('what an adapter is worth', () => {
  it('grows with use, fades with time by half in every half-life, and never-used is worth least', () => {
    expect(usesAt(0, 0, 0, 0)).toEqual({ uses: 4, lastUseMs: 0 })
    expect(usesAt(0, 0, 0, 0, 2 * HALF_LIFE)?.uses).toBeCloseTo(2)
    expect(score(usesAt(0, 0))).toBeGreaterThan(score(usesAt(0)))
    // Two uses a half-life ago are as good as one now.
    expect(score(usesAt(0, 0))).toBeCloseTo(score(usesAt(HALF_LIFE)))
    expect(score(undefined)).toBe(Number.NEGATIVE_INFINITY)
  })

  it('grows with what a reload costs and falls with the space that it takes, in proportion to use', () => {
    expect(score(usesAt(0), { reloadMs: 40, space: 1000 })).toBeCloseTo(score(usesAt(0, 0, 0, 0)))
    expect(score(usesAt(0), { reloadMs: 10, space: 4000 })).toBeCloseTo(score(usesAt(-2 * HALF_LIFE)))
  })

  it('keeps the order of two adapters while neither is used, however long that is', () => {
    const times = fc.array(fc.nat(10_000), { minLength: 1, maxLength: 20 }).map((all) => all.toSorted((a, b) => a - b))
    const seed = randomSeed('order of scores')
    fc.assert(
      fc.property(times, times, fc.nat(100_000), (one, other, laterMs) => {
        // What both are worth after a while, computed without the trick of moving the decay to the other side.
        const worth = (at: readonly number[]): number =>
          at.reduce((sum, atMs) => sum + 2 ** ((atMs - 10_000 - laterMs) / HALF_LIFE), 0)
        const difference = score(usesAt(...one)) - score(usesAt(...other))
        const expected = Math.log2(worth(one)) - Math.log2(worth(other))
        expect(difference).toBeCloseTo(expected, 6)
      }),
      { seed },
    )
    expect(seed).toBeDefined()
  })

  it('is never outweighed by what was read once, of the same kind, when used twice lately', () => {
    const seed = randomSeed('scan against hot')
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(500), (firstMs, gapMs) => {
        const hot = usesAt(firstMs, firstMs + gapMs)
        const scanned = usesAt(firstMs + gapMs + 400)
        return score(hot) > score(scanned)
      }),
      { seed },
    )
    expect(seed).toBeDefined()
  })
})
