import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BLOCK, type QuantizedWeight, quantize4, quantize8 } from '../../../../packages/worker/src/engine/onnx/quantize.ts'

/** What MatMulNBits reads: scale · (q − zero), the lower element in the lower bits. */
function dequantized({ bits, packed, scales, zeroPoints }: QuantizedWeight, n: number, k: number): number[][] {
  const blocks = Math.ceil(k / BLOCK)
  const zeroAt = (row: number, block: number): number =>
    zeroPoints ? ((zeroPoints[row * Math.ceil(blocks / 2) + (block >> 1)] ?? 0) >> ((block & 1) * 4)) & 15 : 128
  return Array.from({ length: n }, (_, row) =>
    Array.from({ length: k }, (__, column) => {
      const block = Math.floor(column / BLOCK)
      const element = (row * blocks + block) * BLOCK + (column % BLOCK)
      const q = bits === 8 ? (packed[element] ?? 0) : ((packed[element >> 1] ?? 0) >> ((element & 1) * 4)) & 15
      return (scales[row * blocks + block] ?? 0) * (q - zeroAt(row, block))
    }),
  )
}

const matrices = fc.record({ n: fc.integer({ min: 1, max: 5 }), k: fc.integer({ min: 1, max: 100 }) }).chain(({ n, k }) =>
  fc.record({
    n: fc.constant(n),
    k: fc.constant(k),
    values: fc.array(fc.float({ min: -4, max: 4, noNaN: true }), { minLength: n * k, maxLength: n * k }),
  }),
)

test.each([
  ['8 bits', quantize8, 127],
  ['4 bits', quantize4, 15],
] as const)('%s keep every weight within one step of its block', (_, quantize, steps) => {
  fc.assert(
    fc.property(matrices, ({ n, k, values }) => {
      const restored = dequantized(quantize(Float32Array.from(values), n, k), n, k)
      for (let row = 0; row < n; row += 1) {
        for (let start = 0; start < k; start += BLOCK) {
          const block = values.slice(row * k + start, row * k + Math.min(start + BLOCK, k))
          const range = steps === 127 ? Math.max(...block.map(Math.abs)) : Math.max(0, ...block) - Math.min(0, ...block)
          for (const [i, value] of block.entries()) {
            const error = Math.abs((restored[row]?.[start + i] ?? Number.NaN) - value)
            expect(error).toBeLessThanOrEqual(range / steps + 1e-6)
          }
        }
      }
    }),
  )
})

test('a block of zeros stays zero', () => {
  expect(dequantized(quantize8(new Float32Array(40), 1, 40), 1, 40)[0]).toEqual(Array(40).fill(0))
  expect(dequantized(quantize4(new Float32Array(40), 1, 40), 1, 40)[0]).toEqual(Array(40).fill(0))
})
