/** Random calls of quiver::Attention: shapes of models × what a step may hold. */
import {
  type AttentionCase,
  type AttentionShape,
  keyAt,
  narrowedElements,
  type Piece,
  rowsOf,
  valueAt,
} from './attention-operator.ts'
import { randomFrom } from './random-seed.ts'

export const EPSILON = 1e-6

/** Beginning with SmolLM2's and Qwen3's; then heads that are no multiple of any vector, a head for each, and wide ones. */
export const attentionShapes: readonly Omit<AttentionShape, 'element'>[] = [
  { heads: 9, kvHeads: 3, dim: 64, window: 0, hasNorms: false },
  { heads: 4, kvHeads: 2, dim: 128, window: 0, hasNorms: true },
  { heads: 32, kvHeads: 8, dim: 128, window: 40, hasNorms: false },
  { heads: 14, kvHeads: 2, dim: 24, window: 0, hasNorms: true },
  { heads: 3, kvHeads: 3, dim: 80, window: 130, hasNorms: false },
  { heads: 50, kvHeads: 1, dim: 8, window: 0, hasNorms: false },
  { heads: 2, kvHeads: 1, dim: 256, window: 1, hasNorms: false },
]

/** What a step holds. Rows of the cache are in no order. */
export const attentionMixes: Readonly<Record<string, readonly Piece[]>> = {
  nothing: [],
  'a first token': [{ cacheRow: 1, position: 0, rows: 1 }],
  'a first prompt': [{ cacheRow: 0, position: 0, rows: 17 }],
  'one long sequence': [{ cacheRow: 2, position: 399, rows: 1 }],
  'a piece of a long prompt': [{ cacheRow: 1, position: 120, rows: 60 }],
  'a long prompt': [{ cacheRow: 0, position: 0, rows: 300 }],
  'all at once': [
    { cacheRow: 3, position: 15, rows: 1 },
    { cacheRow: 0, position: 16, rows: 1 },
    { cacheRow: 4, position: 127, rows: 3 },
    { cacheRow: 1, position: 0, rows: 20 },
    { cacheRow: 2, position: 250, rows: 10 },
  ],
}

/**
 * A call whose cache holds NaN wherever nothing may be read: in other rows, and from a sequence's position on.
 * @param keep which of the pieces the cache is filled for; all of them unless it is given
 */
export function attentionCase(shape: AttentionShape, pieces: readonly Piece[], seed: number): AttentionCase {
  const random = randomFrom(seed)
  const { heads, kvHeads, dim, element } = shape
  const cacheRows = 5
  const capacity = 416
  const values = (length: number, size: number) => Float32Array.from({ length }, () => (random() * 2 - 1) * size)
  const cached = cacheRows * kvHeads * capacity * dim
  const floats = { keys: new Float32Array(cached).fill(Number.NaN), values: new Float32Array(cached).fill(Number.NaN) }
  const angles = values(capacity * (dim / 2), Math.PI)
  const frame = {
    ...shape,
    pieces,
    cacheRows,
    capacity,
    epsilon: EPSILON,
    qkv: values(rowsOf({ pieces }) * (heads + 2 * kvHeads) * dim, 2),
    cos: angles.map(Math.cos),
    sin: angles.map(Math.sin),
    qNorm: values(dim, 2),
    kNorm: values(dim, 2),
    ...floats,
  }
  for (const { cacheRow, position } of pieces) {
    for (let head = 0; head < kvHeads; head += 1) {
      for (let at = 0; at < position; at += 1) {
        for (let d = 0; d < dim; d += 1) {
          floats.keys[keyAt(frame, cacheRow, head, at, d)] = (random() * 2 - 1) * 2
          floats.values[valueAt(frame, cacheRow, head, at, d)] = random() * 2 - 1
        }
      }
    }
  }
  return { ...frame, keys: finiteNarrowed(floats.keys, element), values: finiteNarrowed(floats.values, element) }
}

const F16_NAN = 0x7e00

function finiteNarrowed(values: Float32Array<ArrayBuffer>, element: AttentionShape['element']): AttentionCase['keys'] {
  if (element === 'f32') return values
  const bits = narrowedElements(
    values.map((value) => (Number.isNaN(value) ? 0 : value)),
    element,
  )
  return (bits as Uint16Array<ArrayBuffer>).map((own, i) => (Number.isNaN(values[i]) ? F16_NAN : own))
}
