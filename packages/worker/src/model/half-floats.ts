/**
 * Little-endian floats as they stand in a model file, widened to fill all of `target`; exact. The machines that Node runs on
 * are all little-endian.
 */
import { readBf16, readF16 } from '@quiver/cache/format'

export function widenFloat16(source: Uint8Array, target: Float32Array): void {
  readF16(halvesOf(source, target.length), target)
}

export function widenBfloat16(source: Uint8Array, target: Float32Array): void {
  readBf16(halvesOf(source, target.length), target)
}

export function copyFloat32(source: Uint8Array, target: Float32Array): void {
  new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(source.subarray(0, target.byteLength))
}

/** Copies only what lies unaligned. */
function halvesOf(source: Uint8Array, count: number): Uint16Array {
  const { buffer, byteOffset } = source.byteOffset % 2 === 0 ? source : source.slice()
  return new Uint16Array(buffer, byteOffset, count)
}
