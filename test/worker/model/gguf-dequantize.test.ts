import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { f16ToNumber } from '../../../packages/cache/src/format/half.ts'
import { dequantizers } from '../../../packages/worker/src/model/gguf-dequantize.ts'
import { supportedGgufTypes } from '../../../packages/worker/src/model/gguf-types.ts'
import { readFloats, tinyModelsFolder } from '../../support/tiny-models.ts'

it.each(supportedGgufTypes)('%s blocks become the very float32 values that the gguf package makes of them', (type) => {
  const folder = path.join(tinyModelsFolder, 'dequantize')
  const expected = readFloats(path.join(folder, `${type}.values.bin`))
  const values = new Float32Array(expected.length)
  dequantizers[type](readFileSync(path.join(folder, `${type}.blocks.bin`)), values)
  expect(values).toEqual(expected)
})

it('knows every kind of binary16: zeros, subnormals, normals, infinities, not a number', () => {
  expect(f16ToNumber(0x0000)).toBe(0)
  expect(f16ToNumber(0x8000)).toBe(-0)
  expect(f16ToNumber(0x0001)).toBe(2 ** -24)
  expect(f16ToNumber(0x03ff)).toBe(1023 * 2 ** -24)
  expect(f16ToNumber(0x3c00)).toBe(1)
  expect(f16ToNumber(0xc000)).toBe(-2)
  expect(f16ToNumber(0x7bff)).toBe(65504)
  expect(f16ToNumber(0x7c00)).toBe(Number.POSITIVE_INFINITY)
  expect(f16ToNumber(0xfc00)).toBe(Number.NEGATIVE_INFINITY)
  expect(f16ToNumber(0x7e00)).toBeNaN()
})
