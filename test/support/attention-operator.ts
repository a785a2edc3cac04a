/** quiver::Attention alone: a graph of one node, run by ONNX Runtime, and the same computed plainly in double. */
import { readF16, writeF16 } from '../../packages/cache/src/format/half.ts'
import { OnnxModelBuilder } from '../../packages/worker/src/engine/onnx/onnx-model.ts'
import { type BoundInput, NodeUnderTest } from './node-under-test.ts'

export type CacheElement = 'f32' | 'f16'
type Elements = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>

/** Keys of a group lie dimension by dimension (kernels/operator/attention_call.h). */
export const KEY_GROUP = 16

export interface AttentionShape {
  readonly heads: number
  readonly kvHeads: number
  readonly dim: number
  /** 0: every row sees all before it. */
  readonly window: number
  readonly hasNorms: boolean
  readonly element: CacheElement
}

/** Rows of one sequence in a call: `rows` of them from `position` on, in a row of the cache. */
export interface Piece {
  readonly cacheRow: number
  readonly position: number
  readonly rows: number
}

export interface AttentionCase extends AttentionShape {
  readonly pieces: readonly Piece[]
  readonly cacheRows: number
  readonly capacity: number
  readonly epsilon: number
  /** [rows, (heads + 2 · kvHeads) · dim] */
  readonly qkv: Float32Array<ArrayBuffer>
  /** [cacheRows, kvHeads, capacity / 16, dim, 16]; written by a run */
  readonly keys: Elements
  /** [cacheRows, kvHeads, capacity, dim]; written by a run */
  readonly values: Elements
  /** [capacity, dim / 2] */
  readonly cos: Float32Array<ArrayBuffer>
  readonly sin: Float32Array<ArrayBuffer>
  /** [dim] */
  readonly qNorm: Float32Array<ArrayBuffer>
  readonly kNorm: Float32Array<ArrayBuffer>
}

export const rowsOf = ({ pieces }: Pick<AttentionCase, 'pieces'>): number => pieces.reduce((sum, { rows }) => sum + rows, 0)

const perRow = (pieces: readonly Piece[], value: (piece: Piece, i: number) => number): Int32Array<ArrayBuffer> =>
  Int32Array.from(pieces.flatMap((piece) => Array.from({ length: piece.rows }, (_, i) => value(piece, i))))

export function attentionInputs(attention: AttentionCase): Map<string, BoundInput> {
  const { heads, kvHeads, dim, cacheRows, capacity, element, pieces } = attention
  const rows = rowsOf(attention)
  const inputs = new Map<string, BoundInput>([
    ['qkv', { type: 'f32', shape: [rows, (heads + 2 * kvHeads) * dim], data: attention.qkv }],
    ['keys', { type: element, shape: [cacheRows, kvHeads, capacity / KEY_GROUP, dim, KEY_GROUP], data: attention.keys }],
    ['values', { type: element, shape: [cacheRows, kvHeads, capacity, dim], data: attention.values }],
    ['cache_row', { type: 'i32', shape: [rows], data: perRow(pieces, ({ cacheRow }) => cacheRow) }],
    ['position', { type: 'i32', shape: [rows], data: perRow(pieces, ({ position }, i) => position + i) }],
    ['cos', { type: 'f32', shape: [capacity, dim / 2], data: attention.cos }],
    ['sin', { type: 'f32', shape: [capacity, dim / 2], data: attention.sin }],
  ])
  if (attention.hasNorms) {
    inputs.set('q_norm', { type: 'f32', shape: [dim], data: attention.qNorm })
    inputs.set('k_norm', { type: 'f32', shape: [dim], data: attention.kNorm })
  }
  return inputs
}

export interface AttentionGraph {
  readonly library: string
  readonly shape: AttentionShape
  readonly epsilon: number
  readonly threads?: number
  /** Of the values, where it differs from the keys'. */
  readonly elementOfValues?: CacheElement
}

export class AttentionUnderTest {
  readonly #node: NodeUnderTest

  private constructor(node: NodeUnderTest) {
    this.#node = node
  }

  static async open(graph: AttentionGraph): Promise<AttentionUnderTest> {
    return new AttentionUnderTest(await NodeUnderTest.open(graph.library, modelOf(graph), graph.threads))
  }

  /** Writes the case's cache. @returns [rows, heads · dim] */
  async run(attention: AttentionCase): Promise<Float32Array> {
    return await this.runBound(attentionInputs(attention), [rowsOf(attention), attention.heads * attention.dim])
  }

  async runBound(inputs: ReadonlyMap<string, BoundInput>, outShape: readonly number[]): Promise<Float32Array> {
    return await this.#node.run(inputs, outShape)
  }

  close(): void {
    this.#node.close()
  }
}

function modelOf({ shape, epsilon, elementOfValues }: AttentionGraph): Uint8Array {
  const model = new OnnxModelBuilder('')
  const inputs = [
    model.input('qkv', 'f32', ['rows', 'columns']),
    model.input('keys', shape.element, ['k0', 'k1', 'k2', 'k3', 'k4']),
    model.input('values', elementOfValues ?? shape.element, ['v0', 'v1', 'v2', 'v3']),
    model.input('cache_row', 'i32', ['cache_rows']),
    model.input('position', 'i32', ['positions']),
    model.input('cos', 'f32', ['c0', 'c1']),
    model.input('sin', 'f32', ['s0', 's1']),
    ...(shape.hasNorms ? [model.input('q_norm', 'f32', ['qn']), model.input('k_norm', 'f32', ['kn'])] : []),
  ]
  const attributes = { heads: shape.heads, kv_heads: shape.kvHeads, window: shape.window, epsilon: { float: epsilon } }
  model.nodeInto('Attention', inputs, ['result'], attributes, 'quiver')
  model.output('result', 'f32', ['rows', 'result_columns'])
  return model.encode()
}

/** Elements of an array as floats. */
export function widenedElements(values: Elements): Float32Array {
  if (values instanceof Float32Array) return values
  const floats = new Float32Array(values.length)
  readF16(values, floats)
  return floats
}

export function narrowedElements(values: Float32Array<ArrayBuffer>, element: CacheElement): Elements {
  if (element === 'f32') return values
  const bits = new Uint16Array(values.length)
  writeF16(values, bits)
  return bits
}

/** Index of one dimension of a key in `keys`, and of a value in `values`. */
export function keyAt(of: AttentionCase, cacheRow: number, head: number, position: number, d: number): number {
  const group = ((cacheRow * of.kvHeads + head) * of.capacity) / KEY_GROUP + Math.floor(position / KEY_GROUP)
  return (group * of.dim + d) * KEY_GROUP + (position % KEY_GROUP)
}
export function valueAt(of: AttentionCase, cacheRow: number, head: number, position: number, d: number): number {
  return ((cacheRow * of.kvHeads + head) * of.capacity + position) * of.dim + d
}

/** A head after its norm and its rotation. */
export function rotated(of: AttentionCase, head: Float32Array, weight: Float32Array, position: number): Float64Array {
  const { dim } = of
  const half = dim / 2
  const plain = Float64Array.from(head)
  const scale = 1 / Math.sqrt(plain.reduce((sum, value) => sum + value * value, 0) / dim + of.epsilon)
  const normed = of.hasNorms ? plain.map((value, d) => value * scale * (weight[d] as number)) : plain
  return normed.map((value, d) => {
    const i = d % half
    const [cos, sin] = [of.cos[position * half + i] as number, of.sin[position * half + i] as number]
    const other = normed[d < half ? d + half : d - half] as number
    return d < half ? value * cos - other * sin : value * cos + other * sin
  })
}

/**
 * What each row attends to, in double, over the keys and values that the cache holds after the call: whether these are right is
 * looked at apart from this.
 */
export function attentionReference(of: AttentionCase): Float64Array {
  const { heads, kvHeads, dim, window } = of
  const [keys, values] = [widenedElements(of.keys), widenedElements(of.values)]
  const out = new Float64Array(rowsOf(of) * heads * dim)
  const columns = (heads + 2 * kvHeads) * dim
  let row = 0
  for (const piece of of.pieces) {
    for (let i = 0; i < piece.rows; i += 1, row += 1) {
      const position = piece.position + i
      const first = window > 0 ? Math.max(0, position - window + 1) : 0
      for (let head = 0; head < heads; head += 1) {
        const kv = Math.floor(head / (heads / kvHeads))
        const start = row * columns + head * dim
        const query = rotated(of, of.qkv.subarray(start, start + dim), of.qNorm, position)
        const scores = Array.from({ length: position + 1 - first }, (_, j) => {
          const at = keyAt(of, piece.cacheRow, kv, first + j, 0)
          let sum = 0
          for (let d = 0; d < dim; d += 1) sum += (query[d] as number) * (keys[at + d * KEY_GROUP] as number)
          return sum / Math.sqrt(dim)
        })
        const most = scores.reduce((largest, score) => Math.max(largest, score), Number.NEGATIVE_INFINITY)
        const weights = scores.map((score) => Math.exp(score - most))
        const total = weights.reduce((sum, weight) => sum + weight, 0)
        for (const [j, weight] of weights.entries()) {
          const at = valueAt(of, piece.cacheRow, kv, first + j, 0)
          const to = (row * heads + head) * dim
          for (let d = 0; d < dim; d += 1) {
            out[to + d] = (out[to + d] as number) + (weight / total) * (values[at + d] as number)
          }
        }
      }
    }
  }
  return out
}
