/**
 * Quantised blocks to float32, as ggml's `dequantize_row_*` and the `gguf` Python package define them; values are equal bit
 * for bit to the latter's, because every product and sum is rounded to float32 where it rounds.
 *
 * Formulas (d, m, dmin are binary16; q are the stored integers):
 *   Q8_0  32 elements, 34 bytes: d, 32 × int8                               x = d·q
 *   Q4_0  32 elements, 18 bytes: d, 16 bytes; low nibbles are elements 0…15 x = d·(q − 8)
 *   Q4_1  32 elements, 20 bytes: d, m, 16 bytes likewise                    x = d·q + m
 *   Q4_K  256 elements, 144 bytes: d, dmin, 12 bytes of eight 6-bit scales and minima, 128 bytes of nibbles
 *                                                                           x = (d·scale)·q − dmin·minimum
 *   Q6_K  256 elements, 210 bytes: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 × int8 scales, d
 *                                                                           x = (d·scale)·(q − 32)
 */

import { f16ToNumber } from '@quiver/cache/format'
import type { SupportedGgufType } from './gguf-types.ts'
import { copyFloat32, widenBfloat16, widenFloat16 } from './half-floats.ts'

/** Fills all of `target`, whose length is a whole number of blocks, from `source`, which holds just those blocks. */
export type Dequantizer = (source: Uint8Array, target: Float32Array) => void

export const dequantizers: Readonly<Record<SupportedGgufType, Dequantizer>> = {
  F32: copyFloat32,
  F16: widenFloat16,
  BF16: widenBfloat16,
  Q8_0: dequantizeQ8_0,
  Q4_0: dequantizeQ4_0,
  Q4_1: dequantizeQ4_1,
  Q4_K: dequantizeQ4_K,
  Q6_K: dequantizeQ6_K,
}

function float16At(source: Uint8Array, at: number): number {
  return f16ToNumber((source[at] ?? 0) | ((source[at + 1] ?? 0) << 8))
}

function signedByte(byte: number): number {
  return (byte << 24) >> 24
}

function dequantizeQ8_0(source: Uint8Array, target: Float32Array): void {
  for (let start = 0, at = 0; start < target.length; start += 32, at += 34) {
    const scale = float16At(source, at)
    for (let i = 0; i < 32; i++) target[start + i] = scale * signedByte(source[at + 2 + i] ?? 0)
  }
}

function dequantizeQ4_0(source: Uint8Array, target: Float32Array): void {
  for (let start = 0, at = 0; start < target.length; start += 32, at += 18) {
    const scale = float16At(source, at)
    for (let i = 0; i < 16; i++) {
      const pair = source[at + 2 + i] ?? 0
      target[start + i] = scale * ((pair & 0x0f) - 8)
      target[start + 16 + i] = scale * ((pair >> 4) - 8)
    }
  }
}

function dequantizeQ4_1(source: Uint8Array, target: Float32Array): void {
  for (let start = 0, at = 0; start < target.length; start += 32, at += 20) {
    const scale = float16At(source, at)
    const minimum = float16At(source, at + 2)
    // scale · 15 has at most 15 bits of fraction, so the product is exact and only the sum needs rounding.
    for (let i = 0; i < 16; i++) {
      const pair = source[at + 4 + i] ?? 0
      target[start + i] = scale * (pair & 0x0f) + minimum
      target[start + 16 + i] = scale * (pair >> 4) + minimum
    }
  }
}

function dequantizeQ4_K(source: Uint8Array, target: Float32Array): void {
  for (let start = 0, at = 0; start < target.length; start += 256, at += 144) {
    const scale = float16At(source, at)
    const minimumScale = float16At(source, at + 2)
    for (let group = 0; group < 8; group++) {
      const factor = Math.fround(scale * q4kScale(source, at + 4, group))
      const minimum = Math.fround(minimumScale * q4kMinimum(source, at + 4, group))
      // Two groups of 32 share 32 bytes: the even group has the low nibbles, the odd one the high nibbles.
      const nibbles = at + 16 + (group >> 1) * 32
      const shift = (group & 1) * 4
      const out = start + group * 32
      for (let i = 0; i < 32; i++) {
        target[out + i] = Math.fround(factor * (((source[nibbles + i] ?? 0) >> shift) & 0x0f)) - minimum
      }
    }
  }
}

/** Scales 0…3 are the low six bits of bytes 0…3; 4…7 have four bits in bytes 8…11 and two on top of bytes 0…3. */
function q4kScale(source: Uint8Array, at: number, group: number): number {
  if (group < 4) return (source[at + group] ?? 0) & 0x3f
  return ((source[at + 4 + group] ?? 0) & 0x0f) | (((source[at + group - 4] ?? 0) >> 2) & 0x30)
}

/** Minima 0…3 are the low six bits of bytes 4…7; 4…7 have four bits in bytes 8…11 and two on top of bytes 4…7. */
function q4kMinimum(source: Uint8Array, at: number, group: number): number {
  if (group < 4) return (source[at + 4 + group] ?? 0) & 0x3f
  return ((source[at + 4 + group] ?? 0) >> 4) | (((source[at + group] ?? 0) >> 2) & 0x30)
}

function dequantizeQ6_K(source: Uint8Array, target: Float32Array): void {
  for (let start = 0, at = 0; start < target.length; start += 256, at += 210) {
    const scale = float16At(source, at + 208)
    for (let group = 0; group < 8; group++) {
      // Each half of 128 elements has 64 bytes of low nibbles and 32 bytes of upper bits; within a half, groups 0 and 1 have the
      // low nibbles of its two runs of 32 bytes, groups 2 and 3 the high ones, and group g the bit pair g of the upper bits.
      const half = group >> 2
      const quarter = group & 3
      const low = at + half * 64 + (quarter & 1) * 32
      const lowShift = (quarter >> 1) * 4
      const high = at + 128 + half * 32
      const highShift = quarter * 2
      const out = start + group * 32
      const first = Math.fround(scale * signedByte(source[at + 192 + group * 2] ?? 0))
      const second = Math.fround(scale * signedByte(source[at + 193 + group * 2] ?? 0))
      for (let i = 0; i < 32; i++) {
        const q = (((source[low + i] ?? 0) >> lowShift) & 0x0f) | ((((source[high + i] ?? 0) >> highShift) & 3) << 4)
        target[out + i] = (i < 16 ? first : second) * (q - 32)
      }
    }
  }
}
