/** Natural log-probabilities of a row of logits, in float64. */
export function logSoftmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits)
  const largest = Math.max(...values)
  const total = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0))
  return values.map((value) => value - total)
}

/** The largest distance between two rows of numbers. */
export function largestDifference(expected: ArrayLike<number>, actual: ArrayLike<number>): number {
  return Math.max(...Array.from(expected, (value, i) => Math.abs(value - (actual[i] ?? Number.NaN))))
}

/** KL(p ‖ q) in nats of two rows of log-probabilities. */
export function klDivergence(p: ArrayLike<number>, q: ArrayLike<number>): number {
  return Array.from(p).reduce((sum, value, i) => sum + Math.exp(value) * (value - (q[i] ?? Number.NaN)), 0)
}
