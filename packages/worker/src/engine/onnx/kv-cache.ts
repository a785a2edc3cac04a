import { strict as assert } from 'node:assert'
import type { SequenceId } from '@quiver/protocol'
import type { ModelSpec } from '../../model/model-spec.ts'

/**
 * Keys and values of all sequences. For each layer and kind one array [rows, kvHeads, capacity, headDim]; attention over a
 * batch needs its sequences in neighbouring rows, so rows are moved where a sequence leaves a hole. A spare row serves
 * for exchanging two. Rows never used have no resident pages.
 */
export class KvCache {
  readonly capacity: number
  /** Per layer: keys, then values. */
  readonly arrays: readonly Float32Array<ArrayBuffer>[]
  readonly #rowSize: number
  readonly #heads: number
  readonly #headDim: number
  /** Row → the sequence in it and its length in tokens. Rows in use are 0 … length−1. */
  readonly #rows: { sequence: SequenceId; length: number }[] = []
  readonly #rowOf = new Map<SequenceId, number>()
  readonly #limit: number

  constructor(spec: ModelSpec, options: { readonly sequences: number; readonly totalTokens: number }) {
    this.capacity = options.totalTokens
    this.#limit = options.sequences
    this.#heads = spec.kvHeadCount
    this.#headDim = spec.headDim
    this.#rowSize = this.#heads * this.capacity * this.#headDim
    this.arrays = Array.from({ length: spec.layerCount * 2 }, () => new Float32Array((options.sequences + 1) * this.#rowSize))
  }

  /** Elements of `count` rows from `row` on, in one of `arrays`. */
  view(array: Float32Array<ArrayBuffer>, row: number, count: number): Float32Array<ArrayBuffer> {
    return array.subarray(row * this.#rowSize, (row + count) * this.#rowSize)
  }

  /** The row of a sequence; a new one gets the next free row. */
  row(sequence: SequenceId): number {
    const known = this.#rowOf.get(sequence)
    if (known !== undefined) return known
    assert(this.#rows.length < this.#limit, 'more sequences than the engine has rows for')
    const row = this.#rows.length
    this.#rows.push({ sequence, length: 0 })
    this.#rowOf.set(sequence, row)
    return row
  }

  length(sequence: SequenceId): number {
    const row = this.#rowOf.get(sequence)
    return row === undefined ? 0 : (this.#rows[row]?.length ?? 0)
  }

  setLength(sequence: SequenceId, length: number): void {
    const entry = this.#rows[this.row(sequence)]
    if (entry) entry.length = length
  }

  /** Brings the given sequences into rows 0 … n−1 and answers them in that order. */
  gather(sequences: readonly SequenceId[]): SequenceId[] {
    const wanted = new Set(sequences)
    for (const sequence of sequences) this.row(sequence)
    let hole = 0
    for (let row = wanted.size; row < this.#rows.length; row += 1) {
      if (!wanted.has(this.#at(row).sequence)) continue
      while (wanted.has(this.#at(hole).sequence)) hole += 1
      this.#exchange(hole, row)
    }
    return Array.from({ length: wanted.size }, (_, row) => this.#at(row).sequence)
  }

  /** Bytes of one token's keys and values in all layers. */
  get tokenBytes(): number {
    return this.arrays.reduce((sum, { BYTES_PER_ELEMENT }) => sum + this.#heads * this.#headDim * BYTES_PER_ELEMENT, 0)
  }

  /** Copies `count` tokens from position `from` on: layer by layer, head by head. */
  copyOut(sequence: SequenceId, from: number, count: number, target: Uint8Array): void {
    assert(from + count <= this.length(sequence), 'only what was computed is copied')
    this.#pieces(sequence, from, count, (piece, at) => target.set(piece, at))
  }

  /** Appends `count` tokens that `copyOut` gave. */
  copyIn(sequence: SequenceId, from: number, count: number, source: Uint8Array): void {
    assert(from === this.length(sequence) && from + count <= this.capacity, 'a sequence goes on where it stands, and fits')
    this.#pieces(sequence, from, count, (piece, at) => piece.set(source.subarray(at, at + piece.length)))
    this.setLength(sequence, from + count)
  }

  release(sequence: SequenceId): void {
    const row = this.#rowOf.get(sequence)
    if (row === undefined) return
    this.#rowOf.delete(sequence)
    const last = this.#rows.pop()
    if (!last || last.sequence === sequence) return
    this.#copy(this.#rows.length, row, last.length)
    this.#put(row, last)
  }

  /** The bytes of `count` tokens of a sequence, and where they stand in a copy of all. */
  #pieces(sequence: SequenceId, from: number, count: number, take: (piece: Uint8Array, at: number) => void): void {
    const first = this.row(sequence) * this.#rowSize + from * this.#headDim
    let at = 0
    for (const { buffer, byteOffset, BYTES_PER_ELEMENT: size } of this.arrays) {
      for (let head = 0; head < this.#heads; head += 1) {
        const start = first + head * this.capacity * this.#headDim
        const piece = new Uint8Array(buffer, byteOffset + start * size, count * this.#headDim * size)
        take(piece, at)
        at += piece.length
      }
    }
  }

  #at(row: number): { sequence: SequenceId; length: number } {
    const entry = this.#rows[row]
    assert(entry, 'a row in use has an entry')
    return entry
  }

  #put(row: number, entry: { sequence: SequenceId; length: number }): void {
    this.#rows[row] = entry
    this.#rowOf.set(entry.sequence, row)
  }

  #exchange(left: number, right: number): void {
    const [a, b] = [this.#at(left), this.#at(right)]
    this.#copy(left, this.#limit, a.length)
    this.#copy(right, left, b.length)
    this.#copy(this.#limit, right, a.length)
    this.#put(left, b)
    this.#put(right, a)
  }

  /** Copies the first `length` tokens of a row, head by head. */
  #copy(from: number, to: number, length: number): void {
    const stride = this.capacity * this.#headDim
    for (const array of this.arrays) {
      for (let head = 0; head < this.#heads; head += 1) {
        const source = from * this.#rowSize + head * stride
        array.copyWithin(to * this.#rowSize + head * stride, source, source + length * this.#headDim)
      }
    }
  }
}
