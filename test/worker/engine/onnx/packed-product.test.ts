import { describe, expect, test } from 'vitest'
import { packedShape, packProduct } from '../../../../packages/worker/src/engine/onnx/packed-product.ts'

describe('weights of quiver::Product8', () => {
  test('lie in panels of 16 outputs and units of 64 inputs, with a scale for each 32', () => {
    const [outputs, inputs] = [17, 70]
    const weight = new Float32Array(outputs * inputs)
    // Output 16 is the first of the second panel; input 69 is in the second unit, group 1, third of four.
    weight[16 * inputs + 69] = -127
    weight[3 * inputs + 33] = 63.5
    const packed = packProduct('w', weight, outputs, inputs)
    expect(packedShape(outputs, inputs)).toEqual([2, 2, 1088])
    expect(packed).toHaveLength(2 * 2 * 1088)
    const bytes = new Int8Array(packed.buffer)
    const second = 3 * 1088
    expect(bytes[second + 1 * 64 + 0 * 4 + 1]).toBe(-127)
    // Of 33: the second block, group 0, second of four; 0.5 is 0x3f00 as bfloat16.
    expect(bytes[512 + 0 * 64 + 3 * 4 + 1]).toBe(127)
    expect([packed[1024 + 32 + 3 * 2], packed[1024 + 32 + 3 * 2 + 1]]).toEqual([0x00, 0x3f])
    expect(bytes.filter((value) => value === 127 || value === -127)).toHaveLength(2)
  })

  test('are as near as 8 bits and a scale of 8 bits can be', () => {
    const weight = Float32Array.from({ length: 16 * 64 }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 5)))
    const packed = packProduct('w', weight, 16, 64)
    const bytes = new Int8Array(packed.buffer)
    for (const [i, value] of weight.entries()) {
      const [output, input] = [Math.floor(i / 64), i % 64]
      const at = 1024 + (input >> 5) * 32 + output * 2
      const bits = ((packed[at] ?? 0) | ((packed[at + 1] ?? 0) << 8)) << 16
      const scale = new Float32Array(Int32Array.of(bits).buffer)[0] ?? 0
      const q = bytes[(input >> 2) * 64 + output * 4 + (input & 3)] ?? 0
      expect(Math.abs(q * scale - value)).toBeLessThanOrEqual(scale * 0.7501)
    }
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('are refused when one is %s', (value) => {
    const weight = new Float32Array(32).fill(value)
    expect(() => packProduct('lm_head', weight, 1, 32)).toThrow('the weight lm_head holds a value that is not finite')
  })
})
