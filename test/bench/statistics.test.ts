import { expect, test } from 'vitest'
import { asRate, quantile, ratioOfMedians, summarise } from '../../bench/shared/statistics.ts'

test.each([
  { share: 0, expected: 1 },
  { share: 0.5, expected: 2.5 },
  { share: 0.9, expected: 3.7 },
  { share: 1, expected: 4 },
])('interpolates the quantile $share of four samples', ({ share, expected }) => {
  expect(quantile([4, 1, 3, 2], share)).toBeCloseTo(expected, 12)
})

test('sorts by size, not as text', () => {
  expect(summarise([10, 9, 100])).toEqual({ samples: 3, min: 9, median: 10, p90: 82 })
})

test('tells one sample three times', () => {
  expect(summarise([7])).toEqual({ samples: 1, min: 7, median: 7, p90: 7 })
})

test('refuses a quantile of nothing', () => {
  expect(() => quantile([], 0.5)).toThrow('needs samples')
})

test('gives as p90 of a rate what nine of ten reach', () => {
  const times = Array.from({ length: 11 }, (_, i) => 1 / (i + 1))
  const { min, median, p90 } = asRate(times, 100)
  expect([min, median, p90].map(Math.round)).toEqual([100, 600, 200])
})

test('divides medians, whatever single samples do', () => {
  expect(ratioOfMedians([3, 3, 900], [2, 2, 2])).toBe(1.5)
})
