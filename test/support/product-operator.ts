/** quiver::Product8 alone: a graph of one node, run by ONNX Runtime, and the same computed plainly. */
import { readBf16 } from '../../packages/cache/src/format/half.ts'
import { OnnxModelBuilder } from '../../packages/worker/src/engine/onnx/onnx-model.ts'
import {
  PANEL_OUTPUTS,
  packedShape,
  packProduct,
  UNIT_BYTES,
  UNIT_INPUTS,
} from '../../packages/worker/src/engine/onnx/packed-product.ts'
import { type BoundInput, NodeUnderTest } from './node-under-test.ts'

export interface ProductShape {
  readonly inputs: number
  readonly outputs: number
}

export interface ProductGraph extends ProductShape {
  readonly library: string
  readonly threads?: number
}

export class ProductOperatorUnderTest {
  readonly #node: NodeUnderTest
  readonly #graph: ProductGraph

  private constructor(node: NodeUnderTest, graph: ProductGraph) {
    this.#node = node
    this.#graph = graph
  }

  static async open(graph: ProductGraph): Promise<ProductOperatorUnderTest> {
    return new ProductOperatorUnderTest(await NodeUnderTest.open(graph.library, modelOf(graph), graph.threads), graph)
  }

  /** @returns x [rows, inputs] · packed weights, [rows, outputs] */
  async run(x: Float32Array<ArrayBuffer>, weights: Uint8Array<ArrayBuffer>): Promise<Float32Array> {
    const { inputs, outputs } = this.#graph
    const rows = x.length / inputs
    const bound = new Map<string, BoundInput>([
      ['x', { type: 'f32', shape: [rows, inputs], data: x }],
      ['weights', { type: 'u8', shape: packedShape(outputs, inputs), data: weights }],
    ])
    return await this.runBound(bound, [rows, outputs])
  }

  async runBound(inputs: ReadonlyMap<string, BoundInput>, outShape: readonly number[]): Promise<Float32Array> {
    return await this.#node.run(inputs, outShape)
  }

  close(): void {
    this.#node.close()
  }
}

function modelOf({ inputs, outputs }: ProductGraph): Uint8Array {
  const model = new OnnxModelBuilder('')
  model.input('x', 'f32', ['rows', 'x_columns'])
  model.input('weights', 'u8', ['panels', 'units', 'bytes'])
  model.nodeInto('Product8', ['x', 'weights'], ['result'], { in: inputs, out: outputs }, 'quiver')
  model.output('result', 'f32', ['y_rows', 'y_columns'])
  return model.encode()
}

/** Values around 0 of different sizes in every block, as activations and weights have them. */
export function randomMatrix(length: number, random: () => number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length)
  let size = 1
  for (let i = 0; i < length; i += 1) {
    if (i % 32 === 0) size = 2 ** Math.floor(random() * 6 - 5)
    values[i] = (random() - 0.5) * size
  }
  return values
}

export function randomProduct({ inputs, outputs }: ProductShape, random: () => number): Uint8Array<ArrayBuffer> {
  return packProduct('random', randomMatrix(inputs * outputs, random), outputs, inputs)
}

/** Weights as they are packed: the integer and the scale of one input of one output. */
function weightAt(packed: Uint8Array<ArrayBuffer>, units: number, output: number, input: number): { q: number; scale: number } {
  const panel = Math.floor(output / PANEL_OUTPUTS)
  const unit = (panel * units + Math.floor(input / UNIT_INPUTS)) * UNIT_BYTES
  const lane = output % PANEL_OUTPUTS
  const within = input % UNIT_INPUTS
  const q = new Int8Array(packed.buffer)[unit + (within >> 2) * PANEL_OUTPUTS * 4 + lane * 4 + (within & 3)] as number
  const at = unit + UNIT_INPUTS * PANEL_OUTPUTS + ((within >> 5) * PANEL_OUTPUTS + lane) * 2
  const scale = new Float32Array(1)
  readBf16(Uint16Array.of((packed[at] as number) | ((packed[at + 1] as number) << 8)), scale)
  return { q, scale: scale[0] as number }
}

/** Halves go to the even neighbour, as processors round. */
function roundedToEven(value: number): number {
  const rounded = Math.round(value)
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}

/** Rows as the operator makes them integers: [rows, inputs], and a scale for each 32 of them. */
export function quantizedRows(x: Float32Array, inputs: number): { q: Int8Array; scales: Float32Array; blocks: number } {
  const rows = x.length / inputs
  const blocks = Math.ceil(inputs / 32)
  const q = new Int8Array(x.length)
  const scales = new Float32Array(rows * blocks)
  for (let row = 0; row < rows; row += 1) {
    for (let block = 0; block < blocks; block += 1) {
      const start = row * inputs + block * 32
      const end = Math.min(start + 32, (row + 1) * inputs)
      const largest = x.subarray(start, end).reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      scales[row * blocks + block] = largest / 127
      const inverse = largest === 0 ? 0 : Math.fround(127 / largest)
      for (let i = start; i < end; i += 1) q[i] = roundedToEven(Math.fround((x[i] as number) * inverse))
    }
  }
  return { q, scales, blocks }
}

/** The largest difference from sums in double, as a part of Σ|terms|, over the given outputs. */
export function worstPart(
  computed: Float32Array,
  x: Float32Array,
  packed: Uint8Array<ArrayBuffer>,
  { inputs, outputs }: ProductShape,
  compared: readonly number[],
): number {
  const { q, scales, blocks } = quantizedRows(x, inputs)
  const units = Math.ceil(inputs / UNIT_INPUTS)
  let worst = 0
  for (const output of compared) {
    const weights = Array.from({ length: inputs }, (_, input) => weightAt(packed, units, output, input))
    for (let row = 0; row * inputs < x.length; row += 1) {
      let sum = 0
      let size = 0
      for (const [input, weight] of weights.entries()) {
        const term =
          (q[row * inputs + input] as number) * (scales[row * blocks + (input >> 5)] as number) * weight.q * weight.scale
        sum += term
        size += Math.abs(term)
      }
      const difference = Math.abs((computed[row * outputs + output] as number) - sum)
      const part = difference === 0 ? 0 : difference / size
      worst = Number.isNaN(part) ? Number.POSITIVE_INFINITY : Math.max(worst, part)
    }
  }
  return worst
}
