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
    choose: (row) => {
      const mask = constraint.mask()
      const best = bestAllowed(row, mask)
      const logprobs = sampler.takesBest === true ? row.logprobs : masked(row.logprobs, mask, scores)
      return sampler.choose({ ...row, logprobs, topIds: [best], topLogprobs: [row.logprobs[best] ?? Number.NaN] })
    },
    accept: (id) => {
      sampler.accept(id)
      constraint.accept(id)
    },
  }
}

/**
 * The row with nothing but what is allowed; the rest has probability 0. Half of the vocabulary or more is copied as it is and the
 * rest struck out, less is put into an empty row.
 */
function masked(logprobs: Float32Array, mask: Int32Array, scores: Float32Array): Float32Array {
  assert(logprobs.length <= scores.length, 'a row is no longer than the vocabulary')
  const row = scores.subarray(0, logprobs.length)
  if (isMostly(mask)) {
    row.set(logprobs)
    forEachBit(mask, 0, (id) => {
      if (id < row.length) row[id] = Number.NEGATIVE_INFINITY
    })
  } else {
    row.fill(Number.NEGATIVE_INFINITY)
    forEachBit(mask, 1, (id) => {
      if (id < row.length) row[id] = logprobs[id] ?? Number.NaN
    })
  }
  return row
}

/** The most likely token that is allowed: one of the engine's best, or it is looked for. */
function bestAllowed({ topIds, logprobs }: RowOutput, mask: Int32Array): number {
  const known = topIds.find((id) => isAllowed(mask, id))
  if (known !== undefined) return known
  let best = Number.NEGATIVE_INFINITY
  let found = -1
  // Written out, because it may go through the whole vocabulary.
  for (let word = 0; word < mask.length; word++) {
    const bits = mask[word] ?? 0
    if (bits === 0) continue
    const end = Math.min(word * 32 + 32, logprobs.length)
    for (let id = word * 32; id < end; id++) {
      const score = logprobs[id] ?? Number.NaN
      if (score > best && isBitSet(bits, id)) {
        best = score
        found = id
      }
    }
  }
  if (found !== -1) return found
  throw new ServingError('internal', 'the model gave no finite probabilities; the adapter may hold values out of range')
}

function isAllowed(mask: Int32Array, id: number): boolean {
  return isBitSet(mask[id >> 5] ?? 0, id)
}

function isBitSet(bits: number, id: number): boolean {
  return ((bits >>> (id & 31)) & 1) === 1
}

/** More words of the mask are full than empty. */
function isMostly(mask: Int32Array): boolean {
  let balance = 0
  for (let word = 0; word < mask.length; word++) balance += (mask[word] ?? 0) === 0 ? -1 : (mask[word] ?? 0) === -1 ? 1 : 0
  return balance > 0
}

function forEachBit(mask: Int32Array, value: 0 | 1, visit: (id: number) => void): void {
  const flip = value === 1 ? 0 : -1
  for (let word = 0; word < mask.length; word++) {
    for (let bits = (mask[word] ?? 0) ^ flip; bits !== 0; bits &= bits - 1) visit(word * 32 + 31 - Math.clz32(bits & -bits))
  }
}
