import type { SequenceId } from '@quiver/protocol'
import type { ModelSpec } from '../../../model/model-spec.ts'
import type { AttentionCache, AttentionRun, CacheBinding } from '../attention-cache.ts'
import { batchLanes, batchRuns, cacheName } from '../batch-runs.ts'
import { RowTable } from '../row-table.ts'
import type { SequenceRows } from '../step-sequences.ts'
import type { Device, DeviceSpan } from './device.ts'

const ELEMENT_BYTES = { f16: 2, bf16: 2, f32: 4 } as const

interface DeviceKvOptions {
  readonly sequences: number
  readonly totalTokens: number
  readonly type: keyof typeof ELEMENT_BYTES
}

/**
 * Keys and values for `GroupQueryAttention` in a device's memory, laid out as on the host (kv-cache.ts). Rows are moved there, in
 * order with what is computed.
 */
export class DeviceKvCache implements AttentionCache {
  readonly capacity: number
  readonly lanes = batchLanes
  readonly runsTogether = false
  /** Per layer: keys, then values; each [rows, kvHeads, capacity, headDim]. */
  readonly #arrays: readonly DeviceSpan[]
  readonly #type: DeviceKvOptions['type']
  readonly #rows: RowTable
  readonly #rowShape: readonly number[]
  readonly #rowBytes: number

  /** @throws ServingError `overloaded` when the device has no room for them */
  constructor(device: Device, spec: ModelSpec, { sequences, totalTokens, type }: DeviceKvOptions) {
    this.capacity = totalTokens
    this.#type = type
    const tokenBytes = spec.headDim * ELEMENT_BYTES[type]
    const pitch = totalTokens * tokenBytes
    this.#rowShape = [spec.kvHeadCount, totalTokens, spec.headDim]
    this.#rowBytes = spec.kvHeadCount * pitch
    const bytes = (sequences + 1) * this.#rowBytes
    const what = `keys and values of ${sequences} sequences of ${totalTokens} tokens`
    this.#arrays = Array.from({ length: spec.layerCount * 2 }, () => device.allocate(bytes, what))
    this.#rows = new RowTable(sequences, (from, to, length) => {
      const runs = { width: length * tokenBytes, pitch, height: spec.kvHeadCount }
      for (const { address } of this.#arrays) device.copy(this.#at(address, to), this.#at(address, from), runs)
    })
  }

  runs(sequences: readonly SequenceRows[]): AttentionRun[] {
    return batchRuns(sequences, this.#rows, (firstRow, batch) => this.#binding(firstRow, batch))
  }

  length(sequence: SequenceId): number {
    return this.#rows.length(sequence)
  }

  setLength(sequence: SequenceId, length: number): void {
    this.#rows.setLength(sequence, length)
  }

  release(sequence: SequenceId): void {
    this.#rows.release(sequence)
  }

  #binding(firstRow: number, batch: number): CacheBinding {
    const tensors = this.#arrays.map(({ address }, i) => ({
      name: cacheName(i),
      type: this.#type,
      shape: [batch, ...this.#rowShape],
      data: { address: this.#at(address, firstRow), byteLength: batch * this.#rowBytes },
    }))
    return { key: `${firstRow}+${batch}`, tensors, isGivenBack: true }
  }

  #at(address: bigint, row: number): bigint {
    return address + BigInt(row * this.#rowBytes)
  }
}
