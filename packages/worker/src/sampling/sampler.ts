import assert from 'node:assert/strict'
import { type SamplingParameters, ServingError } from '@quiver/protocol'
import type { RowOutput } from '../engine/engine.ts'
import type { Candidates } from './candidates.ts'
import { createPenalties, type Penalties } from './penalties.ts'
import { uniform } from './random.ts'
import { drawAt, narrow } from './warpers.ts'
import { createWatermark } from './watermark.ts'

/** Chooses the tokens of one sequence. */
export interface Sampler {
  /** The seed that draws these tokens again, in decimal; undefined when nothing is drawn. */
  readonly seed: string | undefined
  /** It takes the row's first of `topIds` and looks at nothing else. */
  readonly takesBest?: true
  /**
   * Reads the row during the call only. Depends on the parameters, the seed, the tokens accepted so far and this row alone; asked again it answers the same.
   * @returns the token and its natural log-probability as the model gave it, before penalties and warpers (LoRAX reports it
   * after them, so that with top_k 1 every token seems certain)
   * @throws ServingError `internal` when the row holds no finite value, which ends this sequence alone
   */
  choose(row: RowOutput): { readonly id: number; readonly logprob: number }
  /** Tells the token that the sequence goes on with. */
  accept(id: number): void
}

export interface SamplerDeps {
  /** A fresh random seed; only its lowest 53 bits are used, so that it survives clients that read numbers as doubles. */
  drawSeed(): bigint
  /** Work space for the model's vocabulary, shared by all samplers of a worker: `choose` never overlaps itself. */
  readonly candidates: Candidates
}

const MAX_SEED = 2n ** 64n - 1n

/**
 * @param promptIds for the repetition penalty
 * @throws ServingError `invalid_parameters` on a seed of more than 64 bits
 * @example createSampler({ sample: true, temperature: 0.7, seed: '42' }, promptIds, { drawSeed, candidates: new Candidates(49_152) })
 */
export function createSampler(parameters: SamplingParameters, promptIds: readonly number[], deps: SamplerDeps): Sampler {
  const penalties = marked(createPenalties(parameters, promptIds), parameters, promptIds, deps)
  if (!parameters.sample) return penalties.active ? greedyWithPenalties(penalties, deps.candidates) : greedy
  const seed = parameters.seed === undefined ? BigInt.asUintN(53, deps.drawSeed()) : BigInt(parameters.seed)
  if (seed > MAX_SEED) {
    throw new ServingError('invalid_parameters', `\`seed\` must be at most ${MAX_SEED}. Given: ${seed}`)
  }
  const { candidates } = deps
  let accepted = 0
  return {
    seed: String(seed),
    choose: (row) => {
      const values = penalise(row, penalties, candidates)
      narrow(candidates, { values, best: values[bestOf(row, values)] ?? Number.NaN }, parameters)
      return tokenOf(row, drawAt(candidates, uniform(seed, accepted)))
    },
    accept: (id) => {
      accepted++
      penalties.accept(id)
    },
  }
}

/** The most likely token, which the engine found already. */
const greedy: Sampler = {
  seed: undefined,
  takesBest: true,
  choose: ({ topIds: [id], topLogprobs: [logprob] }) => {
    assert(id !== undefined && logprob !== undefined, 'a row comes with its most likely token')
    return { id, logprob }
  },
  accept: () => {},
}

function greedyWithPenalties(penalties: Penalties, candidates: Candidates): Sampler {
  return {
    seed: undefined,
    choose: (row) => tokenOf(row, indexOfBest(penalise(row, penalties, candidates))),
    accept: (id) => penalties.accept(id),
  }
}

/** The watermark comes first, as in TGI: penalties see the logits that it raised. */
function marked(
  penalties: Penalties,
  { watermark }: SamplingParameters,
  promptIds: readonly number[],
  { candidates }: SamplerDeps,
): Penalties {
  if (watermark !== true) return penalties
  const mark = createWatermark(promptIds, candidates.scores.length)
  return {
    active: true,
    apply: (scores, logSumExp) => {
      mark.apply(scores)
      if (penalties.active) penalties.apply(scores, logSumExp)
    },
    accept: (id) => {
      mark.accept(id)
      penalties.accept(id)
    },
  }
}

/** The row itself without penalties, else a changed copy. */
function penalise(row: RowOutput, penalties: Penalties, { scores }: Candidates): Float32Array {
  if (!penalties.active) return row.logprobs
  assert(row.logprobs.length <= scores.length, 'a row is no longer than the vocabulary')
  const copy = scores.subarray(0, row.logprobs.length)
  copy.set(row.logprobs)
  penalties.apply(copy, row.logSumExp ?? 0)
  return copy
}

/** The highest score's id: the engine's finding, unless penalties changed the row. */
function bestOf(row: RowOutput, values: Float32Array): number {
  const [first] = row.topIds
  const unchanged = values === row.logprobs && first !== undefined && Number.isFinite(values[first])
  return unchanged ? first : indexOfBest(values)
}

/** The lowest id of the highest score. */
function indexOfBest(scores: Float32Array): number {
  let best = Number.NEGATIVE_INFINITY
  let found = -1
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] ?? Number.NaN
    if (score > best) {
      best = score
      found = id
    }
  }
  if (found !== -1 && Number.isFinite(best)) return found
  throw new ServingError('internal', 'the model gave no finite probabilities; the adapter may hold values out of range')
}

function tokenOf({ logprobs }: RowOutput, id: number): { readonly id: number; readonly logprob: number } {
  return { id, logprob: logprobs[id] ?? Number.NaN }
}
