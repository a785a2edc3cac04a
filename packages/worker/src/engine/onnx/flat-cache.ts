import { strict as assert } from 'node:assert'
import type { SequenceId } from '@quiver/protocol'
import type { ModelSpec } from '../../model/model-spec.ts'
import type { PrefixMemory } from '../engine.ts'
import type { InputTensor } from './adapter-pools.ts'
import type { AttentionCache, AttentionRun, CacheBinding } from './attention-cache.ts'
import type { SequenceRows } from './step-sequences.ts'

/** Keys lie in groups of so many tokens, dimension by dimension (kernels/operator/attention_call.h has the same number). */
export const KEY_GROUP = 16

export type CacheType = 'f32' | 'f16'
type Elements = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>

const LANE = 'step'

/**
 * Keys and values for quiver::Attention: a row for each sequence, which stays where it is until the sequence leaves. For each
 * layer keys [rows, kvHeads, capacity/16, headDim, 16] and values [rows, kvHeads, capacity, headDim]. All is bound once, and a
 * step is one run. Rows never used have no resident pages; the row that was left last is taken first.
 */
export class FlatCache implements AttentionCache, PrefixMemory {
  readonly capacity: number
  readonly lanes = [LANE]
  readonly runsTogether = true
  /** Bytes of one token's keys and values in all layers. */
  readonly tokenBytes: number
  readonly #heads: number
  readonly #headDim: number
  /** Tokens of a row: `capacity` in whole groups. */
  readonly #stride: number
  /** Per layer: keys, then values. */
  readonly #arrays: readonly Elements[]
  readonly #binding: CacheBinding
  readonly #held = new Map<SequenceId, { readonly row: number; length: number }>()
  readonly #free: number[]

  constructor(
    spec: ModelSpec,
    options: { readonly sequences: number; readonly totalTokens: number; readonly cacheType: CacheType },
  ) {
    const { sequences, totalTokens, cacheType } = options
    this.capacity = totalTokens
    this.#heads = spec.kvHeadCount
    this.#headDim = spec.headDim
    const groups = Math.ceil(totalTokens / KEY_GROUP)
    this.#stride = groups * KEY_GROUP
    this.#free = Array.from({ length: sequences }, (_, i) => sequences - 1 - i)
    const size = sequences * this.#heads * this.#stride * this.#headDim
    this.#arrays = Array.from({ length: spec.layerCount * 2 }, () =>
      cacheType === 'f16' ? new Uint16Array(size) : new Float32Array(size),
    )
    this.tokenBytes = this.#arrays.reduce(
      (sum, { BYTES_PER_ELEMENT }) => sum + this.#heads * this.#headDim * BYTES_PER_ELEMENT,
      0,
    )
    const tensors = this.#arrays.map((data, i): InputTensor => {
      const isKey = i % 2 === 0
      const tail = isKey ? [groups, this.#headDim, KEY_GROUP] : [this.#stride, this.#headDim]
      const name = `${isKey ? 'key' : 'value'}.${i >> 1}`
      return { name, type: cacheType, shape: [sequences, this.#heads, ...tail], data }
    })
    this.#binding = { key: LANE, tensors, isGivenBack: false }
  }

  runs(sequences: readonly SequenceRows[]): AttentionRun[] {
    if (sequences.length === 0) return []
    const cacheRows = sequences.flatMap(({ sequence, rows }) => {
      const { row } = this.#place(sequence)
      return rows.map(() => row)
    })
    const positions = sequences.flatMap(({ rows }) => rows.map(({ position }) => position))
    const inputs: InputTensor[] = [
      { name: 'cache_row', type: 'i32', shape: [cacheRows.length], data: Int32Array.from(cacheRows) },
      { name: 'position', type: 'i32', shape: [positions.length], data: Int32Array.from(positions) },
    ]
    return [{ sequences, lane: LANE, inputs, cache: this.#binding }]
  }

  length(sequence: SequenceId): number {
    return this.#held.get(sequence)?.length ?? 0
  }

  setLength(sequence: SequenceId, length: number): void {
    this.#place(sequence).length = length
  }

  release(sequence: SequenceId): void {
    const held = this.#held.get(sequence)
    if (held === undefined) return
    this.#held.delete(sequence)
    this.#free.push(held.row)
  }

  /** A copy is, layer by layer and head by head, the keys [headDim, count] and the values [count, headDim]. */
  copyOut(sequence: SequenceId, from: number, count: number, target: Uint8Array): void {
    assert(from + count <= this.length(sequence), 'only what was computed is copied')
    this.#pieces(sequence, from, count, (piece, at) => target.set(piece, at))
  }

  copyIn(sequence: SequenceId, from: number, count: number, source: Uint8Array): void {
    assert(from === this.length(sequence) && from + count <= this.capacity, 'a sequence goes on where it stands, and fits')
    this.#pieces(sequence, from, count, (piece, at) => piece.set(source.subarray(at, at + piece.length)))
    this.setLength(sequence, from + count)
  }

  #place(sequence: SequenceId): { readonly row: number; length: number } {
    const known = this.#held.get(sequence)
    if (known !== undefined) return known
    const row = this.#free.pop()
    assert(row !== undefined, 'more sequences than the engine has rows for')
    const held = { row, length: 0 }
    this.#held.set(sequence, held)
    return held
  }

  /** The bytes of `count` tokens of a sequence, and where they stand in a copy of all. */
  #pieces(sequence: SequenceId, from: number, count: number, take: (piece: Uint8Array, at: number) => void): void {
    const { row } = this.#place(sequence)
    const headDim = this.#headDim
    let at = 0
    for (const [i, { buffer, byteOffset, BYTES_PER_ELEMENT: size }] of this.#arrays.entries()) {
      const piece = (start: number, length: number, to: number): void =>
        take(new Uint8Array(buffer, byteOffset + start * size, length * size), at + to * size)
      for (let head = 0; head < this.#heads; head += 1) {
        const base = (row * this.#heads + head) * this.#stride * headDim
        if (i % 2 === 1) piece(base + from * headDim, count * headDim, 0)
        else this.#keyPieces(base, from, count, piece)
        at += count * headDim * size
      }
    }
  }

  /** The parts of [headDim, count] keys, each in its group; a whole group is one part. */
  #keyPieces(base: number, from: number, count: number, piece: (start: number, length: number, to: number) => void): void {
    const headDim = this.#headDim
    if (count === KEY_GROUP && from % KEY_GROUP === 0) {
      piece(base + from * headDim, count * headDim, 0)
      return
    }
    for (let done = 0; done < count; ) {
      const lane = (from + done) % KEY_GROUP
      const length = Math.min(KEY_GROUP - lane, count - done)
      const group = base + (from + done - lane) * headDim
      for (let d = 0; d < headDim; d += 1) piece(group + d * KEY_GROUP + lane, length, d * count + done)
      done += length
    }
  }
}
