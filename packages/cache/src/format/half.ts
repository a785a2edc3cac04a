/**
 * Conversions between float32 and the two 16-bit formats, on raw bits, since Node 22 has no Float16Array. All of them
 * round to nearest, ties to even, as IEEE 754 and PyTorch do.
 */

/** Largest finite value of binary16. */
export const F16_MAX = 65504

const SIGN = 0x8000
const F16_INFINITY = 0x7c00
/** 2^-14 as float32 bits: the smallest normal binary16. */
const SMALLEST_NORMAL = 0x38800000
/** (15 − 127) · 2^23: moves a float32 exponent to binary16's bias. */
const REBIAS = -0x38000000
/** 0.5 as float32 bits; one unit in the last place of 0.5 is 2^-24, the step of binary16 below its normal range. */
const HALF_BITS = 0x3f000000
const TWO_TO_112 = 2 ** 112

/**
 * Writes `source` as binary16 bits into `target`, element by element.
 * @returns the index of the first element that is NaN, infinite or beyond ±65504 after rounding; −1 when all fit
 */
export function writeF16(source: Float32Array, target: Uint16Array): number {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length)
  const scratch = new Float32Array(1)
  const scratchBits = new Uint32Array(scratch.buffer)
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] ?? 0
    const magnitude = word & 0x7fffffff
    let half: number
    if (magnitude < SMALLEST_NORMAL) {
      // The float32 addition itself rounds to the nearest multiple of 2^-24.
      scratch[0] = Math.abs(source[i] ?? 0) + 0.5
      half = (scratchBits[0] ?? 0) - HALF_BITS
    } else {
      half = (magnitude + REBIAS + 0xfff + ((magnitude >>> 13) & 1)) >>> 13
    }
    if (half >= F16_INFINITY) return i
    target[i] = ((word >>> 16) & SIGN) | half
  }
  return -1
}

/** Writes binary16 bits as float32; exact. */
export function readF16(source: Uint16Array, target: Float32Array): void {
  const scratch = new Float32Array(1)
  const scratchBits = new Uint32Array(scratch.buffer)
  for (let i = 0; i < source.length; i++) {
    const half = source[i] ?? 0
    const magnitude = half & 0x7fff
    let value: number
    if (magnitude >= F16_INFINITY) {
      value = magnitude === F16_INFINITY ? Number.POSITIVE_INFINITY : Number.NaN
    } else {
      // The shifted bits are the value times 2^-112; the product is exact, also for numbers below the normal range.
      scratchBits[0] = magnitude << 13
      value = (scratch[0] ?? 0) * TWO_TO_112
    }
    target[i] = half & SIGN ? -value : value
  }
}

/** Writes bfloat16 bits as float32; exact. */
export function readBf16(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length)
  for (let i = 0; i < source.length; i++) bits[i] = (source[i] ?? 0) << 16
}

/** Bits of a float format: its exponent field, and that field's lowest bit. */
export interface ExponentBits {
  readonly mask: number
  readonly unit: number
  readonly sign: number
}

export const f32Exponent: ExponentBits = { mask: 0x7f800000, unit: 0x00800000, sign: 0x80000000 }
export const f16Exponent: ExponentBits = { mask: 0x7c00, unit: 0x0400, sign: 0x8000 }
export const bf16Exponent: ExponentBits = { mask: 0x7f80, unit: 0x0080, sign: 0x8000 }

/**
 * Index of the first NaN or infinity among raw bits of one format; −1 when all are finite. Adding the exponent's lowest bit
 * to an exponent field carries into the (cleared) sign bit exactly when the field is all ones. Two 16-bit elements are
 * looked at together where the array allows it.
 */
export function firstNotFinite(bits: Uint16Array | Uint32Array, { mask, unit, sign }: ExponentBits): number {
  const pairs = bits instanceof Uint16Array && bits.byteOffset % 4 === 0 ? bits.length >>> 1 : 0
  const [pairMask, pairUnit, pairSign] = [mask | (mask << 16), unit | (unit << 16), sign | (sign << 16)]
  const words = pairs > 0 ? new Uint32Array(bits.buffer, bits.byteOffset, pairs) : undefined
  let start = pairs * 2
  for (let i = 0; words !== undefined && i < pairs; i++) {
    if (((((words[i] ?? 0) & pairMask) + pairUnit) & pairSign) === 0) continue
    start = i * 2
    break
  }
  for (let i = start; i < bits.length; i++) {
    if (((((bits[i] ?? 0) & mask) + unit) & sign) !== 0) return i
  }
  return -1
}
