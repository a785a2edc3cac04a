import { describe, expect, it } from 'vitest'
import {
  bf16Exponent,
  f16Exponent,
  f32Exponent,
  firstNotFinite,
  readBf16,
  readF16,
  writeF16,
} from '../../../packages/cache/src/format/half.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

/** binary16 by its definition: sign, 5 bits of exponent, 10 of fraction. */
function f16ByDefinition(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 31
  const fraction = bits & 1023
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

const finiteHalves = Array.from({ length: 0x7c00 }, (_, bits) => bits).flatMap((bits) => [bits, bits | 0x8000])

describe('binary16', () => {
  it('reads all 63,488 finite values exactly', () => {
    const values = new Float32Array(finiteHalves.length)
    readF16(Uint16Array.from(finiteHalves), values)
    expect(finiteHalves.findIndex((bits, i) => !Object.is(values[i], Math.fround(f16ByDefinition(bits))))).toBe(-1)
  })

  it('writes back what it reads', () => {
    const values = new Float32Array(finiteHalves.length)
    const back = new Uint16Array(finiteHalves.length)
    readF16(Uint16Array.from(finiteHalves), values)
    expect(writeF16(values, back)).toBe(-1)
    expect(Array.from(back)).toEqual(finiteHalves)
  })

  it('rounds to the nearest value, ties to the even one, also below the normal range', () => {
    const random = randomFrom(randomSeed('binary16 rounding'))
    const positive = Array.from({ length: 0x7c00 }, (_, bits) => bits)
    for (let i = 0; i < 20_000; i++) {
      const low = positive[Math.floor(random() * (positive.length - 1))] ?? 0
      const [below, above] = [f16ByDefinition(low), f16ByDefinition(low + 1)]
      const middle = (below + above) / 2
      const nudge = (above - below) * 2 ** -8
      const out = new Uint16Array(3)
      expect(writeF16(Float32Array.of(middle - nudge, middle, middle + nudge), out)).toBe(-1)
      expect(Array.from(out), `around ${middle}`).toEqual([low, low % 2 === 0 ? low : low + 1, low + 1])
    }
  })

  it.each([65520, -65520, 1e10, Number.POSITIVE_INFINITY, Number.NaN])('says which element %s cannot be held', (value) => {
    expect(writeF16(Float32Array.of(1, 65519, value), new Uint16Array(3))).toBe(2)
  })
})

describe('bfloat16', () => {
  it('is the upper half of a float32', () => {
    const values = new Float32Array(3)
    readBf16(Uint16Array.of(0x3f80, 0xc000, 0x0001), values)
    expect(Array.from(values)).toEqual([1, -2, Math.fround(2 ** -133)])
  })
})

describe('the scan for NaN and infinity', () => {
  it.each([
    ['F32', f32Exponent, (i: number) => Uint32Array.from({ length: 9 }, (_, k) => (k === i ? 0xff800000 : 0xff7fffff))],
    ['F16', f16Exponent, (i: number) => Uint16Array.from({ length: 9 }, (_, k) => (k === i ? 0x7e01 : 0xfbff))],
    ['BF16', bf16Exponent, (i: number) => Uint16Array.from({ length: 9 }, (_, k) => (k === i ? 0xff80 : 0x7f7f))],
  ])('finds the first one of %s at every place, and none where all are finite', (_, exponent, make) => {
    for (let i = 0; i < 9; i++) expect(firstNotFinite(make(i), exponent)).toBe(i)
    expect(firstNotFinite(make(-1), exponent)).toBe(-1)
    expect(firstNotFinite(make(4).subarray(1), exponent)).toBe(3)
  })
})
