import { strict as assert } from 'node:assert'
import type { SequenceId } from '@quiver/protocol'
import type { ModelSpec } from '../../model/model-spec.ts'
import type { PrefixMemory } from '../engine.ts'
import type { InputTensor } from './adapter-pools.ts'
import type { AttentionCache, AttentionRun, CacheBinding } from './attention-cache.ts'
import { batchLanes, batchRuns, cacheName } from './batch-runs.ts'
import { RowTable } from './row-table.ts'
import type { SequenceRows } from './step-sequences.ts'

/**
 * Keys and values for `GroupQueryAttention` in the host's memory. For each layer and kind one array [rows, kvHeads, capacity, headDim].
 * Rows never used have no resident pages.
 */
export class KvCache implements AttentionCache, PrefixMemory {
  readonly capacity: number
  readonly lanes = batchLanes
  /** It wants equally many rows of each sequence, and of one alone where those are several. */
  readonly runsTogether = false
  /** Per layer: keys, then values. */
  readonly arrays: readonly Float32Array<ArrayBuffer>[]
  readonly #rowSize: number
  readonly #heads: number
  readonly #headDim: number
  readonly #rows: RowTable

  constructor(spec: ModelSpec, options: { readonly sequences: number; readonly totalTokens: number }) {
    this.capacity = options.totalTokens
    this.#heads = spec.kvHeadCount
    this.#headDim = spec.headDim
    this.#rowSize = this.#heads * this.capacity * this.#headDim
    this.arrays = Array.from({ length: spec.layerCount * 2 }, () => new Float32Array((options.sequences + 1) * this.#rowSize))
    this.#rows = new RowTable(options.sequences, (from, to, length) => this.#copy(from, to, length))
  }

  runs(sequences: readonly SequenceRows[]): AttentionRun[] {
    return batchRuns(sequences, this.#rows, (firstRow, batch) => this.#binding(firstRow, batch))
  }

  /** The row of a sequence; a new one gets the next free row. */
  row(sequence: SequenceId): number {
    return this.#rows.row(sequence)
  }

  length(sequence: SequenceId): number {
    return this.#rows.length(sequence)
  }

  setLength(sequence: SequenceId, length: number): void {
    this.#rows.setLength(sequence, length)
  }

  /** Brings the given sequences into rows 0 … n−1 and answers them in that order. */
  gather(sequences: readonly SequenceId[]): SequenceId[] {
    return this.#rows.gather(sequences)
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
    this.#rows.release(sequence)
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

  #binding(firstRow: number, batch: number): CacheBinding {
    const tensors = this.arrays.map(
      (array, i): InputTensor => ({
        name: cacheName(i),
        type: 'f32',
        shape: [batch, this.#heads, this.capacity, this.#headDim],
        data: array.subarray(firstRow * this.#rowSize, (firstRow + batch) * this.#rowSize),
      }),
    )
    return { key: `${firstRow}+${batch}`, tensors, isGivenBack: true }
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
