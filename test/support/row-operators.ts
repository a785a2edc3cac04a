/** quiver::AddNorm and quiver::Gate alone: graphs of one node, run by ONNX Runtime, and the same computed in double. */
import { OnnxModelBuilder } from '../../packages/worker/src/engine/onnx/onnx-model.ts'
import { type BoundInput, NodeUnderTest } from './node-under-test.ts'

const EPSILON = 1e-5

const floats = (data: Float32Array<ArrayBuffer>, ...shape: number[]): BoundInput => ({ type: 'f32', shape, data })

function normModel(which: 'normed' | 'sum', epsilon: number): Uint8Array {
  const model = new OnnxModelBuilder('')
  model.input('residual', 'f32', ['rows', 'features'])
  model.input('added', 'f32', ['added_rows', 'added_features'])
  model.input('weight', 'f32', ['weights'])
  const outputs = which === 'normed' ? ['result', 'other'] : ['other', 'result']
  model.nodeInto('AddNorm', ['residual', 'added', 'weight'], outputs, { epsilon: { float: epsilon } }, 'quiver')
  model.output('result', 'f32', ['rows', 'features'])
  return model.encode()
}

function gateModel(): Uint8Array {
  const model = new OnnxModelBuilder('')
  model.input('x', 'f32', ['rows', 'both'])
  model.nodeInto('Gate', ['x'], ['result'], {}, 'quiver')
  model.output('result', 'f32', ['rows', 'features'])
  return model.encode()
}

export interface NormInput {
  readonly residual: Float32Array<ArrayBuffer>
  readonly added: Float32Array<ArrayBuffer>
  readonly weight: Float32Array<ArrayBuffer>
}

/** Both operators of one build and one instruction set. */
export class RowOperatorsUnderTest {
  readonly #normed: NodeUnderTest
  readonly #sum: NodeUnderTest
  readonly #gate: NodeUnderTest

  private constructor(normed: NodeUnderTest, sum: NodeUnderTest, gate: NodeUnderTest) {
    this.#normed = normed
    this.#sum = sum
    this.#gate = gate
  }

  static async open(library: string, epsilon = EPSILON): Promise<RowOperatorsUnderTest> {
    const [normed, sum] = [normModel('normed', epsilon), normModel('sum', epsilon)]
    return new RowOperatorsUnderTest(
      await NodeUnderTest.open(library, normed),
      await NodeUnderTest.open(library, sum),
      await NodeUnderTest.open(library, gateModel()),
    )
  }

  /** @returns [rows, features] twice */
  async norm({ residual, added, weight }: NormInput): Promise<{ readonly normed: Float32Array; readonly sum: Float32Array }> {
    const features = weight.length
    const shape = [residual.length / features, features] as const
    const inputs = new Map([
      ['residual', floats(residual, ...shape)],
      ['added', floats(added, ...shape)],
      ['weight', floats(weight, features)],
    ])
    return { normed: await this.normBound(inputs, shape), sum: await this.#sum.run(inputs, shape) }
  }

  async normBound(inputs: ReadonlyMap<string, BoundInput>, shape: readonly number[]): Promise<Float32Array> {
    return await this.#normed.run(inputs, shape)
  }

  /** @param x [rows, 2 · features] */
  async gate(x: Float32Array<ArrayBuffer>, features: number): Promise<Float32Array> {
    const rows = features === 0 ? 0 : x.length / (2 * features)
    return await this.gateBound(floats(x, rows, 2 * features), [rows, features])
  }

  async gateBound(x: BoundInput, shape: readonly number[]): Promise<Float32Array> {
    return await this.#gate.run(new Map([['x', x]]), shape)
  }

  close(): void {
    for (const node of [this.#normed, this.#sum, this.#gate]) node.close()
  }
}

/** In double, but for the sum, which is rounded where the operator rounds it. */
export function referenceNorm({ residual, added, weight }: NormInput): {
  readonly normed: Float64Array
  readonly sum: Float32Array
} {
  const features = weight.length
  const sum = residual.map((value, i) => value + (added[i] as number))
  const normed = new Float64Array(sum.length)
  for (let start = 0; start < sum.length; start += features) {
    const row = sum.subarray(start, start + features)
    const mean = row.reduce((squares, value) => squares + value * value, 0) / features
    for (const [i, value] of row.entries()) normed[start + i] = (value / Math.sqrt(mean + EPSILON)) * (weight[i] as number)
  }
  return { normed, sum }
}

export function referenceGate(x: Float32Array, features: number): Float64Array {
  const rows = x.length / (2 * features)
  return Float64Array.from({ length: rows * features }, (_, at) => {
    const start = Math.floor(at / features) * 2 * features + (at % features)
    const gate = x[start] as number
    return (gate / (1 + Math.exp(-gate))) * (x[start + features] as number)
  })
}
