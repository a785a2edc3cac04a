/** The operator's front on the CUDA kernels: ONNX Runtime calls a graph of one node, the shim runs the kernels. */
import { beforeAll, describe, expect, test } from 'vitest'
import { type EmulatedOperator, emulatedOperator } from '../../support/emulated-operator.ts'
import { type CaseShape, loraCase } from '../../support/lora-cases.ts'
import {
  columnsOf,
  inputsOf,
  type LoraCase,
  type LoraElement,
  LoraOperatorUnderTest,
  loraReference,
  narrowed,
  widened,
} from '../../support/lora-operator.ts'

const shape: CaseShape = { seed: 5, element: 'f16', rank: 4, rows: 6, mix: 'different', in: 24, outs: [16, 24], spareRanks: 1 }
/** Half a unit in the last place, relative: y is rounded once. */
const rounding = { f16: 2 ** -11, bf16: 2 ** -8 } as const

let emulated: EmulatedOperator
beforeAll(async () => {
  emulated = await emulatedOperator()
}, 300_000)

async function run(element: LoraElement, lora: LoraCase, pairs = lora.pairs.length): Promise<Float32Array> {
  const operator = await LoraOperatorUnderTest.open({ library: emulated.library.path, element, pairs, inPlace: true })
  try {
    return await operator.run(lora)
  } finally {
    operator.close()
  }
}

/** With x and y that 16 bits hold, so that only the kernels' own rounding is left. */
function exactCase(of: CaseShape, element: 'f16' | 'bf16'): LoraCase {
  const lora = loraCase({ ...of, element })
  const exact = (values: Float32Array<ArrayBuffer>) => Float32Array.from(widened(narrowed(values, element), element))
  return { ...lora, x: exact(lora.x), y: exact(lora.y) }
}

describe.each(['f16', 'bf16'] as const)('with adapters in %s', (element) => {
  test.each([
    ['one row each', { rows: 6, mix: 'different', rank: 'mixed', spareRanks: 0 }],
    ['many rows of one and rows of the base', { rows: 40, mix: 'skewed', rank: 16 }],
    ['no rows', { rows: 0, mix: 'one', rank: 8 }],
  ] as const)('%s come out as in double, but for the rounding of y', async (_title, part) => {
    const lora = exactCase({ ...shape, ...part }, element)
    const { y, magnitude } = loraReference(lora, element)
    const computed = await run(element, lora)
    const wrong = Array.from(y, (value, at) => ({ at, value, got: computed[at] as number })).filter(({ at, value, got }) => {
      const most = rounding[element] * Math.abs(value) + 2e-5 * (magnitude[at] as number) + 2 ** -24
      return !(Math.abs(value - got) <= most)
    })
    expect(wrong).toEqual([])
    expect(computed).toHaveLength(lora.rows * columnsOf(lora))
  })
})

test('slots that do not exist are taken for none by the kernels, and their rows keep y to the bit', async () => {
  const lora = loraCase(shape)
  const slot = Int32Array.of(0, lora.slots, -7, 3, 1 << 30, -1)
  const computed = await run('f16', { ...lora, slot })
  const columns = columnsOf(lora)
  for (const [row, wanted] of slot.entries()) {
    const same = computed.slice(row * columns, (row + 1) * columns)
    const kept = lora.y.slice(row * columns, (row + 1) * columns)
    if (wanted === 0 || wanted === 3) expect(same).not.toEqual(kept)
    else expect(same).toEqual(kept)
  }
})

test('adapters in float32, which the CUDA kernels do not read, are refused', async () => {
  await expect(run('f32', loraCase({ ...shape, element: 'f32' }))).rejects.toThrow(
    'A and B of pair 0 have element types 1 and 1, which this build does not compute with',
  )
})

test('features that are no multiple of 8 are refused with the sentence of the CUDA interface', async () => {
  await expect(run('f16', loraCase({ ...shape, in: 20 }))).rejects.toThrow('in 20 is not a positive multiple of 8')
})

test('shapes are checked by the front, as in every build', async () => {
  const lora = loraCase(shape)
  const graph = { library: emulated.library.path, element: 'f16', pairs: 2, inPlace: true } as const
  const operator = await LoraOperatorUnderTest.open(graph)
  const inputs = inputsOf(lora, graph)
  inputs.set('x', { type: 'f32', shape: [8, 18], data: lora.x })
  await expect(operator.runBound(inputs, [lora.rows, columnsOf(lora)])).rejects.toThrow(/y has 6 rows, x 8/)
  operator.close()
})
