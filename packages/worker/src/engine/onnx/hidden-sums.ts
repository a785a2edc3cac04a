import { strict as assert } from 'node:assert'
import type { SequenceId } from '@quiver/protocol'

/** Sums of the hidden states of sequences that come in several pieces, in float64 so that a long text loses no digits. */
export class HiddenSums {
  readonly #size: number
  readonly #sums = new Map<SequenceId, { readonly values: Float64Array; rows: number }>()

  /** @param size of one hidden state */
  constructor(size: number) {
    this.#size = size
  }

  /** @param states [rows, size], of this sequence alone */
  add(sequence: SequenceId, states: Float32Array): void {
    const sum = this.#sums.get(sequence) ?? { values: new Float64Array(this.#size), rows: 0 }
    this.#sums.set(sequence, sum)
    sum.rows += states.length / this.#size
    for (let start = 0; start < states.length; start += this.#size) {
      for (let i = 0; i < this.#size; i += 1) sum.values[i] = (sum.values[i] as number) + (states[start + i] as number)
    }
  }

  /** [size] */
  mean(sequence: SequenceId): Float32Array {
    const sum = this.#sums.get(sequence)
    assert(sum, `no hidden states of sequence ${sequence} were asked for`)
    return Float32Array.from(sum.values, (value) => value / sum.rows)
  }

  has(sequence: SequenceId): boolean {
    return this.#sums.has(sequence)
  }

  forget(sequence: SequenceId): void {
    this.#sums.delete(sequence)
  }
}
