import { promptMs, type StepPace, stepMs } from './step-times.ts'

/** A step with prompts takes at most so many times what its answers alone take, or take typically. */
const SLOWER_AT_MOST = 1.8
/**
 * Prompts go on by this many rows in any case. Fewer would leave the time of a step to the reading of the weights, which a row costs as
 * much as these, and answers would gain little from it.
 */
export const leastPromptRows = 32

/**
 * How many rows of prompts a step may hold so that running streams keep their pace: with tokens 1.8 times as far apart at
 * most while prompts are computed, the 99th percentile of the gaps stays below twice their median. With nobody decoding, and before
 * anything was measured, all of `chunkTokens`.
 * @param answerRows sequences that decode in the step
 * @returns 1 … chunkTokens
 */
export function promptRows(pace: StepPace | undefined, answerRows: number, chunkTokens: number): number {
  if (pace === undefined || answerRows === 0) return chunkTokens
  const answersMs = stepMs(pace, { answers: answerRows, prompts: 0 })
  const allowedMs = SLOWER_AT_MOST * Math.max(answersMs, pace.typicalMs) - answersMs
  let fits = Math.min(leastPromptRows, chunkTokens)
  if (promptMs(pace, chunkTokens) <= allowedMs) return chunkTokens
  let tooMany = chunkTokens
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1
    if (promptMs(pace, middle) <= allowedMs) fits = middle
    else tooMany = middle
  }
  return fits
}
