import type { SamplingParameters } from '@quiver/protocol'

/** Makes tokens that occurred already, or that the request names, less or more likely. */
export interface Penalties {
  /** false: `apply` would change nothing. */
  readonly active: boolean
  /**
   * Changes the scores of these tokens.
   * @param scores [vocab], log-probabilities; afterwards no longer normalised
   * @param logSumExp logit = log-probability + logSumExp
   */
  apply(scores: Float32Array, logSumExp: number): void
  /** Counts a generated token. */
  accept(id: number): void
}

/** The largest finite float32. */
const SCORE_MAX = 3.4028234663852886e38

/** A penalty of 1e-40 makes logits that a float32 holds as infinite, which would look like a broken model. */
function comparable(score: number): number {
  return Math.min(SCORE_MAX, Math.max(-SCORE_MAX, score))
}

/**
 * First the repetition penalty of CTRL (Keskar et al. 2019, section 4.1) in the form of transformers, TGI and LoRAX: the logit
 * of every token of prompt and answer is divided by it where positive and multiplied where negative. Then OpenAI's frequency
 * and presence penalties: taken off once for every time, and once for having occurred at all, in the answer alone. (LoRAX
 * divides the count by the length of prompt and answer, which leaves next to nothing of the penalty, and counts the prompt.) Last
 * OpenAI's logit bias, as it is.
 */
export function createPenalties(parameters: SamplingParameters, promptIds: readonly number[]): Penalties {
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 } = parameters
  const repeats = repetitionPenalty !== 1
  const biases = Object.entries(parameters.logitBias ?? {}).map(([id, bias]) => [Number(id), bias] as const)
  const counts = frequencyPenalty !== 0 || presencePenalty !== 0
  const seen = new Set<number>(repeats ? promptIds : [])
  const generated = new Map<number, number>()
  return {
    active: repeats || counts || biases.length > 0,
    apply: (scores, logSumExp) => {
      for (const id of seen) {
        const score = scores[id]
        if (score === undefined || !Number.isFinite(score)) continue
        const logit = score + logSumExp
        scores[id] = comparable((logit < 0 ? logit * repetitionPenalty : logit / repetitionPenalty) - logSumExp)
      }
      for (const [id, count] of generated) {
        const score = scores[id]
        if (score !== undefined) scores[id] = score - count * frequencyPenalty - presencePenalty
      }
      for (const [id, bias] of biases) scores[id] = (scores[id] ?? Number.NaN) + bias
    },
    accept: (id) => {
      if (repeats) seen.add(id)
      if (counts) generated.set(id, (generated.get(id) ?? 0) + 1)
    },
  }
}
