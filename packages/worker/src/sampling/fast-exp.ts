/** Weights below e^-30 of the best are nothing: 150,000 of them together are less than a float32 tells from 1. */
export const NEGLIGIBLE_NATS = 30

const STEPS_PER_NAT = 64
const powers = Float64Array.from({ length: NEGLIGIBLE_NATS * STEPS_PER_NAT + 2 }, (_, step) => Math.exp(-step / STEPS_PER_NAT))

/**
 * e^-x for x in [0, NEGLIGIBLE_NATS], off by less than 3e-9 of it: a table for whole steps and three terms of the series for
 * the rest. A draw needs one for every token of the vocabulary, and Math.exp takes three times as long.
 */
export function expOfMinus(x: number): number {
  const step = (x * STEPS_PER_NAT) | 0
  const rest = x - step / STEPS_PER_NAT
  return (powers[step] ?? 0) * (1 - rest * (1 - rest * (0.5 - rest / 6)))
}
