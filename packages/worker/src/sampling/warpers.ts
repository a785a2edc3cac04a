import type { SamplingParameters } from '@quiver/protocol'
import type { Candidates } from './candidates.ts'
import { expOfMinus, NEGLIGIBLE_NATS } from './fast-exp.ts'
import { kthBest } from './kth-best.ts'

/** What is drawn from: natural log-probabilities up to a constant, [vocab], and the highest of them. */
export interface Scores {
  readonly values: Float32Array
  readonly best: number
}

/**
 * Fills `candidates` with what may be drawn, in the order of TGI, LoRAX and transformers: temperature, then top_k, then top_p,
 * then typical_p, each on what the one before left.
 */
export function narrow(candidates: Candidates, scores: Scores, parameters: SamplingParameters): void {
  const { temperature = 1, topK, topP, typicalP } = parameters
  const { values } = scores
  const fewer = topK !== undefined && topK < values.length ? topK : undefined
  const floor = fewer === undefined ? Number.NEGATIVE_INFINITY : kthBest(values, fewer, candidates.keys)
  gather(candidates, scores, { temperature, floor })
  if (fewer !== undefined && fewer < candidates.count) {
    // Several may have the k-th best score.
    orderByScore(candidates, values)
    candidates.keepBest('count', fewer)
  }
  if (topP !== undefined && topP < 1) {
    const { total } = candidates
    // All tokens lighter than this weigh less than the share that may be left out, so none of them is kept.
    candidates.dropLighter(((1 - topP) * total) / candidates.count)
    orderByScore(candidates, values)
    // The smallest set of the most likely tokens that holds this share of the mass or more.
    candidates.keepBest('weight', topP * total)
  }
  if (typicalP !== undefined && typicalP < 1) {
    const { total } = candidates
    orderByTypicality(candidates, scores, temperature)
    candidates.keepBest('weight', typicalP * total)
  }
}

/** @param share in [0, 1). @returns the token at that share of the mass, counted by ascending id */
export function drawAt(candidates: Candidates, share: number): number {
  const { ids, weights, count, total } = candidates
  const target = share * total
  let mass = 0
  for (let at = 0; at < count; at++) {
    mass += weights[at] ?? 0
    if (mass > target) return ids[at] ?? 0
  }
  return ids[count - 1] ?? 0
}

/** Every token from `floor` on that is not negligible, weighed at this temperature. */
function gather(
  candidates: Candidates,
  { values, best }: Scores,
  { temperature, floor }: { readonly temperature: number; readonly floor: number },
): void {
  const { ids, weights } = candidates
  const inverse = 1 / temperature
  // Never what is struck out: at a temperature of 1e308 even -Infinity would be within reach.
  const least = Math.max(floor, best - NEGLIGIBLE_NATS * temperature, -Number.MAX_VALUE)
  let count = 0
  let total = 0
  for (let id = 0; id < values.length; id++) {
    const value = values[id] ?? Number.NaN
    if (!(value >= least)) continue
    const weight = expOfMinus((best - value) * inverse)
    ids[count] = id
    weights[count] = weight
    total += weight
    count++
  }
  candidates.count = count
  candidates.total = total
}

function orderByScore({ ids, keys, count }: Candidates, values: Float32Array): void {
  // Not the distance to the best, which a float32 would round; and 0 - x because -0 would order before 0.
  for (let at = 0; at < count; at++) keys[at] = 0 - (values[ids[at] ?? 0] ?? 0)
}

/** Locally typical sampling (Meister et al. 2022): the nearer a token's surprise to the entropy, the sooner it is kept. */
function orderByTypicality(
  { ids, keys, weights, count, total }: Candidates,
  { values, best }: Scores,
  temperature: number,
): void {
  const inverse = 1 / temperature
  const logTotal = Math.log(total)
  let entropy = 0
  for (let at = 0; at < count; at++) {
    const surprise = (best - (values[ids[at] ?? 0] ?? 0)) * inverse + logTotal
    entropy += ((weights[at] ?? 0) / total) * surprise
  }
  for (let at = 0; at < count; at++) {
    const surprise = (best - (values[ids[at] ?? 0] ?? 0)) * inverse + logTotal
    keys[at] = Math.abs(surprise - entropy)
  }
}
