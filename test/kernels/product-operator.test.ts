/** What quiver::Product8 refuses, and what it keeps apart. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { packedShape } from '../../packages/worker/src/engine/onnx/packed-product.ts'
import type { BoundInput } from '../support/node-under-test.ts'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'
import { ProductOperatorUnderTest, randomMatrix, randomProduct } from '../support/product-operator.ts'
import { randomFrom } from '../support/random-seed.ts'

const library = await builtOperator()
const shape = { inputs: 96, outputs: 40 }
const ROWS = 20

test.runIf(library === undefined)(`quiver::Product8: ${NEEDS_COMPILER}`, ({ skip }) => skip())

describe.runIf(library !== undefined)('quiver::Product8', () => {
  const random = randomFrom(3)
  const weights = randomProduct(shape, random)
  const x = randomMatrix(ROWS * shape.inputs, random)
  let operator: ProductOperatorUnderTest
  beforeAll(async () => {
    operator = await ProductOperatorUnderTest.open({ ...shape, library: library ?? '' })
  })
  afterAll(() => operator?.close())

  const runWith = (name: string, input: Partial<BoundInput>) => {
    const usual: [string, BoundInput][] = [
      ['x', { type: 'f32', shape: [ROWS, shape.inputs], data: x }],
      ['weights', { type: 'u8', shape: packedShape(shape.outputs, shape.inputs), data: weights }],
    ]
    const inputs = new Map(usual.map(([key, value]) => [key, key === name ? { ...value, ...input } : value]))
    return operator.runBound(inputs, [ROWS, shape.outputs])
  }

  test.each<[string, string, Partial<BoundInput>, RegExp]>([
    ['rows of other features', 'x', { shape: [ROWS, 64] }, /x has 64 features, the weights are for 96/],
    ['weights of fewer panels', 'weights', { shape: [2, 2, 1088] }, /weights are \[2, 2, 1088\], not \[3, 2, 1088\]/],
    ['weights of fewer units', 'weights', { shape: [3, 1, 1088] }, /weights are \[3, 1, 1088\], not \[3, 2, 1088\]/],
    ['units of another size', 'weights', { shape: [3, 2, 1024] }, /weights are \[3, 2, 1024\]/],
  ])('refuses %s', async (_title, name, input, message) => {
    await expect(runWith(name, input)).rejects.toThrow(message)
  })

  test('refuses a node without features', async () => {
    const opened = ProductOperatorUnderTest.open({ inputs: 0, outputs: 5, library: library ?? '' })
    await expect(opened).rejects.toThrow(/in is 0 and out is 5/)
  })

  test('answers nothing for no rows', async () => {
    expect(await operator.run(new Float32Array(0), weights)).toHaveLength(0)
  })

  test.each([
    ['a NaN', Number.NaN],
    ['an infinity', Number.NEGATIVE_INFINITY],
  ])('keeps %s in its row', async (_title, value) => {
    const clean = await operator.run(x, weights)
    const harmed = x.slice()
    harmed[5 * shape.inputs + 40] = value
    const y = await operator.run(harmed, weights)
    const row = (of: Float32Array, at: number) => of.subarray(at * shape.outputs, (at + 1) * shape.outputs)
    expect(row(y, 5).every(Number.isNaN)).toBe(true)
    for (let at = 0; at < ROWS; at += 1) if (at !== 5) expect(row(y, at)).toEqual(row(clean, at))
  })

  test('takes values too small for a scale for zeros', async () => {
    const y = await operator.run(new Float32Array(shape.inputs).fill(1e-38), weights)
    expect(y.every((value) => value === 0)).toBe(true)
  })
})
