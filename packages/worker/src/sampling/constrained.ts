import assert from 'node:assert/strict'
import { ServingError } from '@quiver/protocol'
import type { RowOutput } from '../engine/engine.ts'
import type { Sampler } from './sampler.ts'

/** Which tokens may come next in one text. */
export interface Constraint {
  /** A bit for each token, lowest first; valid until `accept`. @throws ServingError when none may come, which ends this text alone */
  mask(): Int32Array
  accept(id: number): void
  close(): void
}

/**
 * The sampler among the tokens that the constraint allows: penalties and warpers see only those. Log-probabilities stay the
 * model's own.
 * @param scores work space, [vocab], shared by all constrained samplers of a worker
 */
export function constrainedSampler(sampler: Sampler, constraint: Constraint, scores: Float32Array): Sampler {
  return {
    seed: sampler.seed,
    choose: (row) => sampler.choose(maskedRow(row, constraint.mask(), scores)),
    accept: (id) => {
      sampler.accept(id)
      constraint.accept(id)
    },
  }
}

/** The row with nothing but what is allowed; the rest has probability 0. */
function maskedRow(row: RowOutput, mask: Int32Array, scores: Float32Array): RowOutput {
  const { logprobs } = row
  assert(logprobs.length <= scores.length, 'a row is no longer than the vocabulary')
  const masked = scores.subarray(0, logprobs.length).fill(Number.NEGATIVE_INFINITY)
  let best = Number.NEGATIVE_INFINITY
  let found = -1
  for (let word = 0; word < mask.length; word++) {
    const bits = mask[word] ?? 0
    if (bits === 0) continue
    const end = Math.min(word * 32 + 32, logprobs.length)
    for (let id = word * 32; id < end; id++) {
      if (((bits >>> (id & 31)) & 1) === 0) continue
      const score = logprobs[id] ?? Number.NaN
      masked[id] = score
      if (score > best) {
        best = score
        found = id
      }
    }
  }
  if (found === -1 || !Number.isFinite(best)) {
    throw new ServingError('internal', 'the model gave no finite probabilities; the adapter may hold values out of range')
  }
  return { ...row, logprobs: masked, topIds: [found], topLogprobs: [best] }
}
