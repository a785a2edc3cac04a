/**
 * Runs every random call of attention-cases.ts by a library of quiver::Attention and each instruction set, as a process of its
 * own: the operator reads QUIVER_LORA_ISA from the true environment, and address checkers must be there before anything else.
 *
 *   node test/support/attention-sweep.ts LIBRARY SEED MOST_ROWS     prints one line of JSON
 */

import { attentionCase, attentionMixes, attentionShapes, EPSILON } from './attention-cases.ts'
import {
  type AttentionCase,
  type AttentionShape,
  AttentionUnderTest,
  attentionReference,
  type CacheElement,
  keyAt,
  rotated,
  rowsOf,
  valueAt,
  widenedElements,
} from './attention-operator.ts'
import { setsHere, withSet } from './instruction-sets.ts'

/** What is promised of a result: the largest difference, as a part of the largest value in the cache. */
export const ATTENTION_TOLERANCE = 1e-5
/** And of what is written: of the largest that a head's rotation adds up. */
export const WRITE_TOLERANCE: Readonly<Record<CacheElement, number>> = { f32: 1e-6, f16: 2 ** -11 * 1.001 }

const MOST_ROWS_OF_OTHERS = 64

export interface AttentionSweep {
  readonly set: string
  readonly calls: number
  /** The largest difference met, as a part of what is allowed. */
  readonly worst: number
  /** Calls that differed by more. */
  readonly failures: readonly string[]
}

/** The largest difference of what is in the cache now, as a part of what is allowed; infinite where something else was touched. */
function worstWritten(of: AttentionCase, before: { keys: Float32Array; values: Float32Array }): number {
  const { heads, kvHeads, dim } = of
  const keys = widenedElements(of.keys)
  const values = widenedElements(of.values)
  const expected = { keys: Float64Array.from(before.keys), values: Float64Array.from(before.values) }
  const columns = (heads + 2 * kvHeads) * dim
  let row = 0
  for (const { cacheRow, position, rows } of of.pieces) {
    for (let i = 0; i < rows; i += 1, row += 1) {
      for (let head = 0; head < kvHeads; head += 1) {
        const at = row * columns + (heads + head) * dim
        const key = rotated(of, of.qkv.subarray(at, at + dim), of.kNorm, position + i)
        for (let d = 0; d < dim; d += 1) {
          expected.keys[keyAt(of, cacheRow, head, position + i, d)] = key[d] as number
          expected.values[valueAt(of, cacheRow, head, position + i, d)] = of.qkv[at + kvHeads * dim + d] as number
        }
      }
    }
  }
  return Math.max(worstPart(keys, expected.keys, of.element), worstPart(values, expected.values, of.element))
}

function worstPart(found: Float32Array, expected: Float64Array, element: CacheElement): number {
  let worst = 0
  for (const [i, value] of found.entries()) {
    const wanted = expected[i] as number
    if (Object.is(value, wanted) || (Number.isNaN(value) && Number.isNaN(wanted))) continue
    const part = Math.abs(value - wanted) / (WRITE_TOLERANCE[element] * Math.max(1, Math.abs(wanted)))
    worst = Number.isNaN(part) ? Number.POSITIVE_INFINITY : Math.max(worst, part)
  }
  return worst
}

function worstResult(found: Float32Array, of: AttentionCase): number {
  const expected = attentionReference(of)
  // Values are in −2 … 2.
  const allowed = 2 * ATTENTION_TOLERANCE
  let worst = 0
  for (const [i, value] of found.entries()) {
    const part = Math.abs(value - (expected[i] as number)) / allowed
    worst = Number.isNaN(part) ? Number.POSITIVE_INFINITY : Math.max(worst, part)
  }
  return worst
}

/** What computes: one instruction set for each graph, since it is chosen when a session is made. */
async function openAll(library: string, shape: AttentionShape, sets: readonly string[]): Promise<AttentionUnderTest[]> {
  const opened: AttentionUnderTest[] = []
  for (const set of sets) {
    opened.push(await withSet(set, () => AttentionUnderTest.open({ library, shape, epsilon: EPSILON })))
  }
  return opened
}

/** Every case of up to `mostRows` rows by every instruction set that this processor has. */
export async function sweep(library: string, seed: number, mostRows: number): Promise<AttentionSweep[]> {
  const sets = setsHere(library)
  const results = sets.map((set) => ({ set, calls: 0, worst: 0, failures: [] as string[] }))
  for (const element of ['f32', 'f16'] as const) {
    for (const [s, plain] of attentionShapes.entries()) {
      const shape = { ...plain, element }
      const operators = await openAll(library, shape, sets)
      for (const [name, pieces] of Object.entries(attentionMixes)) {
        // Doubles take their time: the longest prompt only for the first shape.
        const rows = rowsOf({ pieces })
        if (rows > mostRows || (s > 0 && rows > MOST_ROWS_OF_OTHERS)) continue
        const drawn = attentionCase(shape, pieces, seed + s)
        const before = { keys: widenedElements(drawn.keys), values: widenedElements(drawn.values) }
        for (const [i, operator] of operators.entries()) {
          const attention = { ...drawn, keys: drawn.keys.slice(), values: drawn.values.slice() }
          const found = await operator.run(attention)
          const part = Math.max(worstWritten(attention, before), worstResult(found, attention))
          const result = results[i] as (typeof results)[number]
          result.calls += 1
          result.worst = Math.max(result.worst, part)
          if (!(part <= 1)) result.failures.push(`${name} of ${JSON.stringify(shape)}: ${part}`)
        }
      }
      for (const operator of operators) operator.close()
    }
  }
  return results
}

if (import.meta.main) {
  const [library = '', seed = '1', mostRows = '1000'] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify(await sweep(library, Number(seed), Number(mostRows)))}\n`)
}
