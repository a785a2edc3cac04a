/** What quiver::Lora refuses, and what it keeps apart. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadNativeLibrary } from '../../packages/worker/src/engine/onnx/native-library.ts'
import { openOperator } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { openTestEngine, stepLogprobs, stepRows, testCapacity } from '../support/engine-under-test.ts'
import { type CaseShape, loraCase } from '../support/lora-cases.ts'
import { columnsOf, inputsOf, type LoraCase, type LoraGraph, LoraOperatorUnderTest } from '../support/lora-operator.ts'
import type { BoundInput } from '../support/node-under-test.ts'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'
import { tinyModel } from '../support/tiny-models.ts'

const library = await builtOperator()
const shape: CaseShape = { seed: 5, element: 'f16', rank: 4, rows: 6, mix: 'different', in: 24, outs: [10, 20], spareRanks: 1 }
const graph: LoraGraph = { library: library ?? '', element: 'f16', pairs: 2, inPlace: false, site: 1 }

test.runIf(library === undefined)(`quiver::Lora: ${NEEDS_COMPILER}`, ({ skip }) => skip())

describe.runIf(library !== undefined)('quiver::Lora', () => {
  let operator: LoraOperatorUnderTest
  let lora: LoraCase
  beforeAll(async () => {
    operator = await LoraOperatorUnderTest.open(graph)
    lora = loraCase(shape)
  })
  afterAll(() => operator?.close())

  const runWith = (name: string, input: Partial<BoundInput>) => {
    const inputs = inputsOf(lora, graph)
    const usual = inputs.get(name)
    if (usual === undefined) throw new Error(`no input ${name}`)
    inputs.set(name, { ...usual, ...input })
    return operator.runBound(inputs, [lora.rows, columnsOf(lora)])
  }
  const slots = (...values: number[]): Partial<BoundInput> => ({ data: Int32Array.from(values) })

  test.each<[string, string, () => Partial<BoundInput>, RegExp]>([
    ['a slot beyond the last', 'slot', () => slots(0, 1, 2, 3, 4, 6), /row 5 is for slot 6, there are 6/],
    ['a slot below −1', 'slot', () => slots(0, -2, 2, 3, 4, 5), /row 1 is for slot -2/],
    ['a slot for fewer rows', 'slot', () => ({ shape: [5] }), /y has 6 rows, x 6 and slot 5/],
    ['more rows of x than of y', 'x', () => ({ shape: [8, 18] }), /y has 6 rows, x 8/],
    ['fewer features of x than A reads', 'x', () => ({ shape: [6, 20] }), /A of pair 0 reads 24 features, x has 20/],
    ['a y of other columns', 'y', () => ({ shape: [6, 28] }), /y has 28 columns, the pairs write 30/],
    ['scales for other slots', 'scale', () => ({ shape: [5] }), /rank is for 6 slots and scale for 5/],
    [
      'a table of ranks without these sites',
      'rank',
      () => ({ shape: [2, 6] }),
      /rank has 2 sites, which does not hold 2 from site 1/,
    ],
    ['pools of other slots', 'b1', () => ({ shape: [5, 5, 20] }), /A and B of pair 1 are for 6 and 5 slots/],
    ['pools of other ranks', 'a1', () => ({ shape: [6, 4, 24] }), /A and B of pair 1 hold ranks to 4 and 5/],
    ['a y without columns', 'y', () => ({ shape: [6, 0] }), /y has 0 columns/],
  ])('refuses %s before it touches anything', async (_title, name, input, message) => {
    await expect(runWith(name, input())).rejects.toThrow(message)
  })

  test.each([
    ['more than a slot holds', 6],
    ['less than nothing', -1],
  ])('refuses a rank that is %s', async (_title, rank) => {
    const ranks = Int32Array.of(...new Array(6).fill(-5), ...lora.pairs.flatMap((pair) => pair.ranks))
    ranks[6 + 3] = rank
    await expect(runWith('rank', { data: ranks })).rejects.toThrow(`slot 3 has rank ${rank} at pair 0, the largest is 5`)
  })

  test('does not mind what the table says of slots that no row uses', async () => {
    const ranks = Int32Array.of(...new Array(6).fill(-5), ...lora.pairs.flatMap((pair) => pair.ranks))
    ranks[6 + 3] = 1000
    const inputs = inputsOf({ ...lora, slot: Int32Array.of(0, 1, 2, 4, 5, -1) }, graph)
    inputs.set('rank', { type: 'i32', shape: [3, 6], data: ranks })
    await operator.runBound(inputs, [6, 30])
  })

  test('refuses A and B of different element types, and a node without any', async () => {
    const mixed = await LoraOperatorUnderTest.open({ ...graph, elementOfB: 'f32' })
    const inputs = inputsOf(lora, graph)
    for (const [name, input] of inputs) {
      if (/^b/.test(name)) inputs.set(name, { ...input, type: 'f32', data: new Float32Array(input.data.length) })
    }
    await expect(mixed.runBound(inputs, [lora.rows, columnsOf(lora)])).rejects.toThrow(/pair 0 have element types 10 and 1/)
    mixed.close()
    await expect(LoraOperatorUnderTest.open({ ...graph, pairs: 0 })).rejects.toThrow(/Lora/)
  })

  test('is computed in place by every node of a model, so that y is never copied', async () => {
    const copied = loadNativeLibrary(library ?? '').func('QuiverOpsCopiedCalls', 'int64_t', [])
    const before = Number(copied())
    await operator.run(lora)
    // This graph's y is its caller's, and must be copied: the count counts.
    expect(Number(copied())).toBe(before + 1)
    for (const [name, dtype] of [
      ['qwen2-bf16', 'fp32'],
      ['qwen3-bf16', 'int8'],
      ['llama-fp32-tied', 'int4'],
    ] as const) {
      const opened = await openTestEngine(tinyModel(name), dtype, testCapacity, openOperator(library ?? ''))
      await stepLogprobs(opened.engine, stepRows({ id: 0, tokens: [1, 2, 3] }))
      await stepLogprobs(opened.engine, stepRows({ id: 0, tokens: [4] }, 3))
      await opened.close()
    }
    expect(Number(copied())).toBe(before + 1)
  })

  test('keeps NaN and infinity to the rows of the adapter that has them', async () => {
    const pairs = lora.pairs.map((pair, i) => {
      const a = pair.a.slice()
      // Slot 2 of the first pair is NaN, infinite in the second.
      a.fill(i === 0 ? 0x7e00 : 0x7c00, 2 * lora.maxRank * lora.in, 3 * lora.maxRank * lora.in)
      return { ...pair, a }
    })
    const usual = await operator.run(lora)
    const spoilt = await operator.run({ ...lora, pairs })
    for (let row = 0; row < lora.rows; row += 1) {
      const at = row * columnsOf(lora)
      const own = spoilt.subarray(at, at + columnsOf(lora))
      if (lora.slot[row] === 2) expect(own.some(Number.isFinite)).toBe(false)
      else expect(own).toEqual(usual.subarray(at, at + columnsOf(lora)))
    }
  })

  test('answers a row the same to the bit whoever else is in the batch, as long as the rows of its adapter stay', async () => {
    const together = await operator.run(lora)
    const alone = await operator.run({ ...lora, slot: lora.slot.map((slot, row) => (row === 3 ? slot : -1)) })
    const at = 3 * columnsOf(lora)
    expect(alone.subarray(at, at + columnsOf(lora))).toEqual(together.subarray(at, at + columnsOf(lora)))
  })
})
