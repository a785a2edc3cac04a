/** quiver::Lora alone: a graph of one node, run by ONNX Runtime, and the same computed plainly in double. */
import { readBf16, readF16, writeF16 } from '../../packages/cache/src/format/half.ts'
import { OnnxModelBuilder } from '../../packages/worker/src/engine/onnx/onnx-model.ts'
import { type BoundInput, NodeUnderTest } from './node-under-test.ts'

export type LoraElement = 'f32' | 'f16' | 'bf16'
type Weights = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>

export interface LoraPair {
  /** [slots, maxRank, in], [slots, maxRank, out] */
  readonly a: Weights
  readonly b: Weights
  readonly out: number
  /** [slots] */
  readonly ranks: readonly number[]
}

export interface LoraCase {
  readonly rows: number
  readonly in: number
  readonly slots: number
  readonly maxRank: number
  /** [rows, Σout] */
  readonly y: Float32Array<ArrayBuffer>
  readonly x: Float32Array<ArrayBuffer>
  readonly slot: Int32Array<ArrayBuffer>
  readonly scale: Float32Array<ArrayBuffer>
  readonly pairs: readonly LoraPair[]
}

export interface LoraGraph {
  readonly library: string
  readonly element: LoraElement
  readonly pairs: number
  /** Of B, where it differs from A's. */
  readonly elementOfB?: LoraElement
  /** Whether y comes from another node, so that the runtime may let the operator write into it. */
  readonly inPlace: boolean
  readonly threads?: number
  readonly site?: number
}

export class LoraOperatorUnderTest {
  readonly #node: NodeUnderTest
  readonly #graph: LoraGraph

  private constructor(node: NodeUnderTest, graph: LoraGraph) {
    this.#node = node
    this.#graph = graph
  }

  static async open(graph: LoraGraph): Promise<LoraOperatorUnderTest> {
    return new LoraOperatorUnderTest(await NodeUnderTest.open(graph.library, modelOf(graph), graph.threads), graph)
  }

  /** @returns y after the call, [rows, Σout] */
  async run(lora: LoraCase): Promise<Float32Array> {
    return await this.runBound(inputsOf(lora, this.#graph), [lora.rows, columnsOf(lora)])
  }

  async runBound(inputs: ReadonlyMap<string, BoundInput>, outShape: readonly number[]): Promise<Float32Array> {
    return await this.#node.run(inputs, outShape)
  }

  close(): void {
    this.#node.close()
  }
}

export const columnsOf = ({ pairs }: LoraCase): number => pairs.reduce((sum, { out }) => sum + out, 0)

/** The inputs of a call; `site` rows of the table of ranks stand before its own and hold nonsense. */
export function inputsOf(lora: LoraCase, { element, inPlace, site = 0 }: LoraGraph): Map<string, BoundInput> {
  const { rows, slots, maxRank } = lora
  const ranks = Int32Array.from([...new Array(site * slots).fill(-5), ...lora.pairs.flatMap(({ ranks: own }) => own)])
  const y = inPlace ? lora.y.map((value) => -value) : lora.y
  const pools = lora.pairs.flatMap(({ a, b, out }, i): [string, BoundInput][] => [
    [`a${i}`, { type: element, shape: [slots, maxRank, lora.in], data: a }],
    [`b${i}`, { type: element, shape: [slots, maxRank, out], data: b }],
  ])
  return new Map<string, BoundInput>([
    ['y', { type: 'f32', shape: [rows, columnsOf(lora)], data: y }],
    ['x', { type: 'f32', shape: [rows, lora.in], data: lora.x }],
    ['slot', { type: 'i32', shape: [rows], data: lora.slot }],
    ['rank', { type: 'i32', shape: [site + lora.pairs.length, slots], data: ranks }],
    ['scale', { type: 'f32', shape: [slots], data: lora.scale }],
    ...pools,
  ])
}

function modelOf({ element, elementOfB = element, pairs, inPlace, site = 0 }: LoraGraph): Uint8Array {
  const model = new OnnxModelBuilder('')
  const pools = Array.from({ length: pairs }, (_, i) => [
    model.input(`a${i}`, element, [`a${i}_slots`, `a${i}_rank`, `a${i}_in`]),
    model.input(`b${i}`, elementOfB, [`b${i}_slots`, `b${i}_rank`, `b${i}_out`]),
  ]).flat()
  model.input('y', 'f32', ['y_rows', 'y_columns'])
  model.input('x', 'f32', ['x_rows', 'x_columns'])
  model.input('slot', 'i32', ['slot_rows'])
  model.input('rank', 'i32', ['sites', 'rank_slots'])
  model.input('scale', 'f32', ['scale_slots'])
  const y = inPlace ? model.node('Neg', ['y']) : 'y'
  // The result of the node itself cannot lie in memory that the caller owns and in y's place at once.
  const out = inPlace ? ['sum'] : ['result']
  model.nodeInto('Lora', [y, 'x', 'slot', 'rank', 'scale', ...pools], out, { site }, 'quiver')
  if (inPlace) model.nodeInto('Identity', ['sum'], ['result'])
  model.output('result', 'f32', ['result_rows', 'result_columns'])
  return model.encode()
}

export interface LoraReference {
  readonly y: Float64Array
  /** Sum of the absolute values of everything that was added up for an element: what its rounding is measured by. */
  readonly magnitude: Float64Array
}

/** y[t] + scale[s] · Bᵀ(A x[t]) in double, one row after the other. */
export function loraReference(lora: LoraCase, element: LoraElement): LoraReference {
  const columns = columnsOf(lora)
  const y = Float64Array.from(lora.y)
  const magnitude = y.map(Math.abs)
  const wide = lora.pairs.map(({ a, b }) => ({ a: widened(a, element), b: widened(b, element) }))
  for (let row = 0; row < lora.rows; row += 1) {
    const slot = lora.slot[row] as number
    if (slot < 0) continue
    let column = row * columns
    for (const [i, { out, ranks }] of lora.pairs.entries()) {
      const { a, b } = wide[i] as (typeof wide)[number]
      for (let r = 0; r < (ranks[slot] ?? 0); r += 1) {
        const aRow = (slot * lora.maxRank + r) * lora.in
        const bRow = (slot * lora.maxRank + r) * out
        let sum = 0
        let size = 0
        for (let k = 0; k < lora.in; k += 1) {
          const term = (a[aRow + k] as number) * (lora.x[row * lora.in + k] as number)
          sum += term
          size += Math.abs(term)
        }
        const scale = lora.scale[slot] as number
        for (let c = 0; c < out; c += 1) {
          const weight = scale * (b[bRow + c] as number)
          y[column + c] = (y[column + c] as number) + weight * sum
          magnitude[column + c] = (magnitude[column + c] as number) + Math.abs(weight) * size
        }
      }
      column += out
    }
  }
  return { y, magnitude }
}

const F16_NAN = 0x7e00

/** Rounds floats to an element type. What float16 does not hold becomes NaN. */
export function narrowed(values: Float32Array<ArrayBuffer>, element: LoraElement): Weights {
  if (element === 'f32') return values
  const bits = new Uint16Array(values.length)
  if (element === 'f16') {
    // It stops at the first value that float16 does not hold: NaNs stand where nothing may be read, and values after them.
    for (let begin = 0; begin < values.length; ) {
      const stopped = writeF16(values.subarray(begin), bits.subarray(begin))
      if (stopped === -1) break
      bits[begin + stopped] = F16_NAN
      begin += stopped + 1
    }
  } else for (const [i, word] of new Uint32Array(values.buffer).entries()) bits[i] = word >>> 16
  return bits
}

export function widened(values: Weights, element: LoraElement): Float32Array {
  if (values instanceof Float32Array) return values
  const floats = new Float32Array(values.length)
  if (element === 'f16') readF16(values, floats)
  else readBf16(values, floats)
  return floats
}
