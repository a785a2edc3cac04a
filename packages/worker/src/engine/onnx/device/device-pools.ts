import { strict as assert } from 'node:assert'
import type { PoolArray, PoolStore } from '../pool-store.ts'
import type { Device, DevicePiece } from './device.ts'

/**
 * Adapter pools in a device's memory. What is written is gathered and sent at the end of a slice, beside the steps that are being
 * computed; the step after an adapter's end waits for it on the device.
 */
export function deviceStore(device: Device): PoolStore {
  let pieces: DevicePiece[] = []
  const flush = async (): Promise<void> => {
    const sending = pieces
    pieces = []
    await device.send(sending)
  }
  return {
    sharesHostMemory: false,
    array(length, dtype): PoolArray {
      const elementBytes = dtype === 'f32' ? 4 : 2
      const memory = device.allocate(length * elementBytes, 'slots of adapters')
      return {
        memory,
        length,
        elementBytes,
        put(values, at) {
          assert(values.BYTES_PER_ELEMENT === elementBytes && at + values.length <= length, 'an adapter fits its place')
          pieces.push({ to: memory.address + BigInt(at * elementBytes), from: values })
        },
        zero(start, end) {
          pieces.push({ to: memory.address + BigInt(start * elementBytes), from: new Uint8Array((end - start) * elementBytes) })
        },
      }
    },
    rest: flush,
    async settle() {
      await flush()
      device.fence()
    },
  }
}
