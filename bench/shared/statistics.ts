import { strict as assert } from 'node:assert'

/** What is told of repeated measurements of one thing, in their unit. */
export interface Summary {
  readonly samples: number
  readonly min: number
  readonly median: number
  readonly p90: number
}

/**
 * The value below which a share of the samples lies, interpolated between neighbours (type 7 of Hyndman and Fan, what R and
 * NumPy do by default).
 * @param share 0 … 1
 * @example quantile([1, 2, 3, 4], 0.5) // 2.5
 */
export function quantile(samples: readonly number[], share: number): number {
  assert(samples.length > 0 && share >= 0 && share <= 1, 'a quantile needs samples and a share from 0 to 1')
  const sorted = samples.toSorted((x, y) => x - y)
  const place = (sorted.length - 1) * share
  const below = sorted[Math.floor(place)] ?? 0
  const above = sorted[Math.ceil(place)] ?? below
  return below + (above - below) * (place - Math.floor(place))
}

export function summarise(samples: readonly number[]): Summary {
  return { samples: samples.length, min: quantile(samples, 0), median: quantile(samples, 0.5), p90: quantile(samples, 0.9) }
}

/**
 * The same samples as rates: times of `amount` tokens as tokens in one unit of time. `min` is the slowest, and `p90` what nine
 * of ten reach.
 */
export function asRate(samples: readonly number[], amount: number): Summary {
  const rates = samples.map((sample) => amount / sample)
  return { ...summarise(rates), p90: quantile(rates, 0.1) }
}

/** How many times the median of `base` the median of `samples` is. */
export function ratioOfMedians(samples: readonly number[], base: readonly number[]): number {
  return quantile(samples, 0.5) / quantile(base, 0.5)
}
