import { describe, expect, it } from 'vitest'
import { splitMix64, uniform } from '../../../packages/worker/src/sampling/random.ts'

describe('SplitMix64', () => {
  it('gives the published sequences', () => {
    // Seed 1234567: the test vector of Rosetta Code. Seed 0: the first outputs of Java's SplittableRandom.
    expect([0, 1, 2, 3, 4].map((count) => splitMix64(1_234_567n, count))).toEqual([
      6_457_827_717_110_365_317n,
      3_203_168_211_198_807_973n,
      9_817_491_932_198_370_423n,
      4_593_380_528_125_082_431n,
      16_408_922_859_458_223_821n,
    ])
    expect(splitMix64(0n, 0)).toBe(0xe220_a839_7b1d_cdafn)
  })

  it('keeps to 64 bits at the largest seed', () => {
    const value = splitMix64(2n ** 64n - 1n, 1_000_000)
    expect(value).toBeGreaterThanOrEqual(0n)
    expect(value).toBeLessThan(2n ** 64n)
    expect(splitMix64(2n ** 64n - 1n, 0)).not.toBe(splitMix64(2n ** 64n - 2n, 0))
  })

  it('spreads evenly over [0, 1)', () => {
    const tenths = new Array<number>(10).fill(0)
    for (let count = 0; count < 10_000; count++) {
      const tenth = Math.floor(uniform(42n, count) * 10)
      tenths[tenth] = (tenths[tenth] ?? 0) + 1
    }
    for (const times of tenths) expect(Math.abs(times - 1000)).toBeLessThan(130)
  })
})
