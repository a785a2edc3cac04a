/**
 * The two ways in which PEFT's `add_weighted_adapter` makes one tensor out of several (peft 0.21, utils/merge_utils.py:
 * `task_arithmetic`, `calculate_majority_sign_mask`, `disjoint_merge`), element by element:
 *
 *   sum:      y[e] = Σᵢ wᵢ xᵢ[e]
 *   election: s[e] = sign of Σᵢ xᵢ[e] (`total`) or of Σᵢ sign xᵢ[e] (`frequency`), + where it is 0; then the mean of wᵢ xᵢ[e]
 *             over those i whose xᵢ[e] has the sign s[e], 0 where there is none. The election looks at values without weights.
 *
 * A tensor that is shorter than the merged one counts as padded with zeros: a zero adds nothing and has no vote.
 * Sums are float64 and each result is rounded once to float32, so it is the same on every machine.
 */
import type { MajoritySign } from '@quiver/protocol'

/** One member's tensor as [rank, features], row-major, and what it is multiplied with. */
export interface WeightedTensor {
  readonly values: Float32Array
  readonly weight: number
}

/** Writes elements [from, to) of the merged tensor to the front of `target`. */
export function combine(
  tensors: readonly WeightedTensor[],
  sign: MajoritySign | undefined,
  target: Float32Array,
  { from, to }: { readonly from: number; readonly to: number },
): void {
  for (let at = from; at < to; at++) target[at - from] = sign === undefined ? sumAt(tensors, at) : electedAt(tensors, sign, at)
}

function sumAt(tensors: readonly WeightedTensor[], at: number): number {
  let sum = 0
  for (const { values, weight } of tensors) sum += (values[at] ?? 0) * weight
  return sum
}

function electedAt(tensors: readonly WeightedTensor[], method: MajoritySign, at: number): number {
  let votes = 0
  for (const { values } of tensors) {
    const value = values[at] ?? 0
    votes += method === 'total' ? value : Math.sign(value)
  }
  const elected = votes >= 0 ? 1 : -1
  let sum = 0
  let agreeing = 0
  for (const { values, weight } of tensors) {
    const value = values[at] ?? 0
    if (Math.sign(value) !== elected) continue
    sum += value * weight
    agreeing += 1
  }
  return agreeing === 0 ? 0 : sum / agreeing
}
