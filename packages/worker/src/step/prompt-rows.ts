import { promptMs, type StepPace, stepMs } from './step-times.ts'

/** A step with prompts takes at most so much longer than its answers alone take, or take typically, as a share of that. */
const SLOWER_BY = 0.8
/**
 * For each further sequence that waits for its prompt, over those that decode: where many wait, their first tokens count for more
 * than the pace of few, and requests that come without a pause are not kept from the batch by a share that is too small for them.
 */
const SLOWER_BY_EACH = 8
/** Prompts go on by this many rows in any case. */
export const leastPromptRows = 4

/** Sequences that could have rows in a step. */
export interface Contenders {
  readonly decoding: number
  /** With a prompt that is not computed yet. */
  readonly prompting: number
}

/**
 * How many rows of prompts a step may hold so that running streams keep their pace: with tokens 1.8 times as far apart at
 * most while a prompt is computed, the 99th percentile of the gaps stays below twice their median. With nobody decoding, and
 * before anything was measured, all of `chunkTokens`.
 * @returns 1 … chunkTokens
 */
export function promptRows(pace: StepPace | undefined, { decoding, prompting }: Contenders, chunkTokens: number): number {
  if (pace === undefined || decoding === 0) return chunkTokens
  const answersMs = stepMs(pace, { answers: decoding, prompts: 0 })
  const paceMs = Math.max(answersMs, pace.typicalMs)
  const slowerBy = Math.max(SLOWER_BY, (SLOWER_BY_EACH * (prompting - 1)) / decoding)
  const allowedMs = paceMs * (1 + slowerBy) - answersMs
  if (promptMs(pace, chunkTokens) <= allowedMs) return chunkTokens
  let fits = Math.min(leastPromptRows, chunkTokens)
  let tooMany = chunkTokens
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1
    if (promptMs(pace, middle) <= allowedMs) fits = middle
    else tooMany = middle
  }
  return fits
}
