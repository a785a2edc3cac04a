/** Widening of the two 16-bit float formats to float32. Both conversions are exact. */

/** Value of every IEEE binary16 bit pattern: a table lookup is several times faster than assembling the float. */
const float16Values: Float32Array = makeFloat16Values()

function makeFloat16Values(): Float32Array {
  const values = new Float32Array(0x10000)
  for (let bits = 0; bits < values.length; bits++) {
    const sign = bits & 0x8000 ? -1 : 1
    const exponent = (bits >> 10) & 0x1f
    const fraction = bits & 0x3ff
    if (exponent === 0) values[bits] = sign * fraction * 2 ** -24
    else if (exponent === 0x1f) values[bits] = fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
    else values[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
  }
  return values
}

/** @returns the float32 of one binary16 bit pattern, 0 … 65535 */
export function float16ToNumber(bits: number): number {
  return float16Values[bits & 0xffff] ?? 0
}

/** Widens little-endian binary16 values from `source` (2 bytes each) into all of `target`. */
export function widenFloat16(source: Uint8Array, target: Float32Array): void {
  for (let i = 0, at = 0; i < target.length; i++, at += 2) {
    target[i] = float16Values[(source[at] ?? 0) | ((source[at + 1] ?? 0) << 8)] ?? 0
  }
}

/** Widens little-endian bfloat16 values from `source` (2 bytes each) into all of `target`: they are the upper half of a float32. */
export function widenBfloat16(source: Uint8Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length)
  for (let i = 0, at = 0; i < bits.length; i++, at += 2) {
    bits[i] = (((source[at] ?? 0) | ((source[at + 1] ?? 0) << 8)) << 16) >>> 0
  }
}

/** Copies little-endian float32 values; the machines that Node runs on are all little-endian. */
export function copyFloat32(source: Uint8Array, target: Float32Array): void {
  new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(source.subarray(0, target.byteLength))
}
