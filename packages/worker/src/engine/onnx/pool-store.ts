import { nextTurn, type PackedArray, type PackedDtype } from '@quiver/cache'
import type { TensorMemory } from './ort.ts'

/** Where adapter pools lie: in the host's memory, or in a device's (device/device-pools.ts). */
export interface PoolStore {
  /** Whether a write is seen by the next run without anything being bound anew. */
  readonly sharesHostMemory: boolean
  /** An array of zeros. */
  array(length: number, dtype: PackedDtype): PoolArray
  /** Called between two slices of an adapter; resolves when the next may be written. */
  rest(): Promise<void>
  /** Resolves when the next run sees everything that was written. */
  settle(): Promise<void>
}

export interface PoolArray {
  readonly memory: TensorMemory
  readonly length: number
  readonly elementBytes: number
  /** `values` must not change before the next `rest` or `settle` resolves. */
  put(values: PackedArray, at: number): void
  zero(start: number, end: number): void
}

/** The host's memory. Pages of slots that were never filled, and of ranks never used, are not resident. */
export const hostStore: PoolStore = {
  sharesHostMemory: true,
  array(length, dtype) {
    const memory = dtype === 'f32' ? new Float32Array(length) : new Uint16Array(length)
    return {
      memory,
      length,
      elementBytes: memory.BYTES_PER_ELEMENT,
      put: (values, at) => memory.set(values, at),
      zero: (start, end) => void memory.fill(0, start, end),
    }
  },
  rest: nextTurn,
  settle: () => Promise.resolve(),
}
