import { quantile } from '../shared/statistics.ts'

/** How far one model's distributions are from another's, over the tokens of a text. */
export class Divergence {
  readonly #kl: number[] = []
  #negativeLogLikelihood = 0
  #referenceNegativeLogLikelihood = 0
  #sameTop = 0

  /**
   * Adds one token: natural log-probabilities of what comes next, [vocab], and what does.
   * @param next the token that the text has next
   */
  add(reference: Float32Array, other: Float32Array, next: number): void {
    let kl = 0
    let [best, otherBest] = [0, 0]
    for (const [token, logprob] of reference.entries()) {
      const otherLogprob = other[token] ?? Number.NaN
      kl += Math.exp(logprob) * (logprob - otherLogprob)
      if (logprob > (reference[best] ?? Number.NaN)) best = token
      if (otherLogprob > (other[otherBest] ?? Number.NaN)) otherBest = token
    }
    this.#kl.push(kl)
    this.#negativeLogLikelihood -= other[next] ?? Number.NaN
    this.#referenceNegativeLogLikelihood -= reference[next] ?? Number.NaN
    if (best === otherBest) this.#sameTop += 1
  }

  /** `perplexity` and `top1` as parts of the reference's: 1 where nothing differs. Kullback-Leibler in nats. */
  summary(): { perplexity: number; meanKl: number; p99Kl: number; top1: number; negativeLogLikelihood: number } {
    const count = this.#kl.length
    return {
      perplexity: Math.exp((this.#negativeLogLikelihood - this.#referenceNegativeLogLikelihood) / count),
      meanKl: this.#kl.reduce((sum, kl) => sum + kl, 0) / count,
      p99Kl: quantile(this.#kl, 0.99),
      top1: this.#sameTop / count,
      negativeLogLikelihood: this.#negativeLogLikelihood / count,
    }
  }
}
