/**
 * Conversions between float32 and the two 16-bit formats, on raw bits, since Node 22 has no Float16Array. All of them
 * round to nearest, ties to even, as IEEE 754 and PyTorch do.
 */

/** Largest finite value of binary16. */
export const F16_MAX = 65504
/** Largest finite value of bfloat16, rounded down. */
export const BF16_MAX = 3.38e38

const SIGN = 0x8000
const F16_INFINITY = 0x7c00
/** 2^-14 as float32 bits: the smallest normal binary16. */
const SMALLEST_NORMAL = 0x38800000
/** (15 − 127) · 2^23: moves a float32 exponent to binary16's bias. */
const REBIAS = -0x38000000
/** 1 ÷ the step of binary16 below its normal range. */
const TWO_TO_24 = 2 ** 24
/** A double of this size has no room for fractions: adding it rounds to the nearest integer, ties to even. */
const TWO_TO_52 = 2 ** 52

/** The value of each of the 65,536 bit patterns. Looking one up takes a quarter of the time of working it out. */
const halfValues = Float32Array.from({ length: 0x10000 }, (_, bits) => halfValue(bits))

/**
 * Writes `source` as binary16 bits into `target`, element by element.
 * @returns the index of the first element that is NaN, infinite or beyond ±65504 after rounding; −1 when all fit
 */
export function writeF16(source: Float32Array, target: Uint16Array): number {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length)
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] ?? 0
    const magnitude = word & 0x7fffffff
    const half =
      magnitude < SMALLEST_NORMAL
        ? Math.abs(source[i] ?? 0) * TWO_TO_24 + TWO_TO_52 - TWO_TO_52
        : (magnitude + REBIAS + 0xfff + ((magnitude >>> 13) & 1)) >>> 13
    if (half >= F16_INFINITY) return i
    target[i] = ((word >>> 16) & SIGN) | half
  }
  return -1
}

/**
 * Writes `source` as bfloat16 bits into `target`, element by element.
 * @returns the index of the first element that is NaN, infinite or beyond what bfloat16 holds after rounding; −1 when all fit
 */
export function writeBf16(source: Float32Array, target: Uint16Array): number {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length)
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] ?? 0
    // Just below half a unit, and one more where the unit's bit is odd, carries into it as rounding to even does.
    const rounded = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
    if (((word >>> 16) & bf16Exponent) === bf16Exponent || (rounded & bf16Exponent) === bf16Exponent) return i
    target[i] = rounded
  }
  return -1
}

/** The value of one binary16 bit pattern, 0 … 65535. */
export function f16ToNumber(bits: number): number {
  return halfValues[bits] ?? Number.NaN
}

/** Writes binary16 bits as float32; exact. */
export function readF16(source: Uint16Array, target: Float32Array): void {
  for (let i = 0; i < source.length; i++) target[i] = halfValues[source[i] ?? 0] ?? 0
}

function halfValue(bits: number): number {
  const [exponent, fraction] = [(bits >>> 10) & 31, bits & 1023]
  const sign = bits & SIGN ? -1 : 1
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? fraction / TWO_TO_24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

/** Writes bfloat16 bits as float32; exact. */
export function readBf16(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length)
  for (let i = 0; i < source.length; i++) bits[i] = (source[i] ?? 0) << 16
}

/** The exponent fields of the three formats; all ones means NaN or infinity. */
export const f32Exponent = 0x7f800000
export const f16Exponent = 0x7c00
export const bf16Exponent = 0x7f80

/**
 * Index of the first NaN or infinity among raw bits of one format; −1 when all are finite. Two 16-bit elements are looked
 * at together where the array lies at a multiple of 4.
 * @param exponent the format's exponent field
 */
export function firstNotFinite(bits: Uint16Array | Uint32Array, exponent: number): number {
  const start = bits instanceof Uint16Array && bits.byteOffset % 4 === 0 ? firstPair(bits, exponent) : 0
  for (let i = start; i < bits.length; i++) {
    if (((bits[i] ?? 0) & exponent) === exponent) return i
  }
  return -1
}

/** Index of the first of a pair of which one is not finite, or of the element after the last pair. */
function firstPair(bits: Uint16Array, exponent: number): number {
  const words = new Uint32Array(bits.buffer, bits.byteOffset, bits.length >>> 1)
  const upper = exponent << 16
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? 0
    if ((word & exponent) === exponent || (word & upper) === upper) return i * 2
  }
  return words.length * 2
}
