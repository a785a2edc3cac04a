/** What quiver::Attention refuses, and that a row's result is its own. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attentionCase, EPSILON } from '../support/attention-cases.ts'
import {
  type AttentionCase,
  type AttentionShape,
  AttentionUnderTest,
  attentionInputs,
  keyAt,
  type Piece,
  rowsOf,
  valueAt,
} from '../support/attention-operator.ts'
import type { BoundInput } from '../support/node-under-test.ts'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'

const library = await builtOperator()
const shape: AttentionShape = { heads: 9, kvHeads: 3, dim: 64, window: 0, hasNorms: true, element: 'f16' }
const pieces: readonly Piece[] = [
  { cacheRow: 3, position: 15, rows: 1 },
  { cacheRow: 0, position: 300, rows: 1 },
  { cacheRow: 4, position: 120, rows: 40 },
  { cacheRow: 1, position: 0, rows: 20 },
]

test.runIf(library === undefined)(`quiver::Attention: ${NEEDS_COMPILER}`, ({ skip }) => skip())

describe.runIf(library !== undefined)('quiver::Attention', () => {
  let operator: AttentionUnderTest
  beforeAll(async () => {
    operator = await AttentionUnderTest.open({ library: library ?? '', shape, epsilon: EPSILON })
  })
  afterAll(() => operator?.close())

  const attention = attentionCase(shape, pieces, 3)
  const columns = shape.heads * shape.dim
  const replaced = (values: Int32Array, row: number, value: number): Partial<BoundInput> => ({
    data: Int32Array.from(values, (own, i) => (i === row ? value : own)),
  })
  const usual = (name: string): BoundInput => {
    const input = attentionInputs(attention).get(name)
    if (input === undefined) throw new Error(`no input ${name}`)
    return input
  }
  const ints = (name: string) => usual(name).data as Int32Array
  const runWith = (name: string, input: Partial<BoundInput>) => {
    const inputs = attentionInputs({ ...attention, keys: attention.keys.slice(), values: attention.values.slice() })
    inputs.set(name, { ...usual(name), ...input })
    return operator.runBound(inputs, [rowsOf(attention), columns])
  }

  test.each<[string, string, () => Partial<BoundInput>, RegExp]>([
    [
      'a row of the cache beyond the last',
      'cache_row',
      () => replaced(ints('cache_row'), 0, 5),
      /row 0 is for row 5 of the cache/,
    ],
    ['a row of the cache below 0', 'cache_row', () => replaced(ints('cache_row'), 1, -1), /row 1 is for row -1 of the cache/],
    ['a sequence that comes twice', 'cache_row', () => replaced(ints('cache_row'), 1, 4), /row 2 is for position 120 after 300/],
    ['rows of a sequence apart', 'cache_row', () => replaced(ints('cache_row'), 42, 3), /row 42 goes on in row 3/],
    [
      'a position beyond the cache',
      'position',
      () => replaced(ints('position'), 0, 416),
      /row 0 is for position 416, the cache has 416/,
    ],
    ['a position below 0', 'position', () => replaced(ints('position'), 0, -1), /row 0 is for position -1/],
    ['a gap within a sequence', 'position', () => replaced(ints('position'), 5, 124), /row 5 is for position 124 after 122/],
    ['positions without angles', 'cos', () => ({ shape: [200, 32] }), /cos is \[200, 32\] and sin \[416, 32\]/],
    ['angles of other heads', 'cos', () => ({ shape: [208, 64] }), /for heads of 64 dimensions/],
    ['positions for fewer rows', 'position', () => ({ shape: [61] }), /qkv has 62 rows, cache_row 62 and position 61/],
    ['a qkv of other columns', 'qkv', () => ({ shape: [62, 900] }), /qkv has 900 columns, 9 heads, 3 kv heads of 64/],
    ['keys in another layout', 'keys', () => ({ shape: [5, 3, 26, 16, 64] }), /keys are \[5, 3, 26, 16, 64\] where values are/],
    ['values of other heads', 'values', () => ({ shape: [5, 2, 416, 64] }), /values are of 2 heads, not 3/],
    ['heads of odd sizes', 'values', () => ({ shape: [5, 3, 416, 60] }), /a head has 60 dimensions/],
    ['a norm of another length', 'q_norm', () => ({ shape: [32] }), /q_norm has 32 weights for heads of 64/],
  ])('refuses %s before it touches anything', async (_title, name, input, message) => {
    await expect(runWith(name, input())).rejects.toThrow(message)
  })

  test('refuses values of another element type than keys, and heads that cannot be shared', async () => {
    const mixed = await AttentionUnderTest.open({ library: library ?? '', shape, epsilon: EPSILON, elementOfValues: 'f32' })
    const inputs = attentionInputs(attention)
    inputs.set('values', { ...usual('values'), type: 'f32', data: new Float32Array(attention.values.length) })
    await expect(mixed.runBound(inputs, [rowsOf(attention), columns])).rejects.toThrow(/element types 10 and 1/)
    mixed.close()
    const odd = { library: library ?? '', shape: { ...shape, heads: 10 }, epsilon: EPSILON }
    await expect(AttentionUnderTest.open(odd)).rejects.toThrow(/10 heads, 3 kv heads/)
  })

  const copyOf = (of: AttentionCase): AttentionCase => ({ ...of, keys: of.keys.slice(), values: of.values.slice() })
  /** The same rows of qkv, cut into steps. */
  const part = (of: AttentionCase, own: readonly Piece[], firstRow: number): AttentionCase => {
    const width = (shape.heads + 2 * shape.kvHeads) * shape.dim
    return { ...of, pieces: own, qkv: of.qkv.slice(firstRow * width, (firstRow + rowsOf({ pieces: own })) * width) }
  }

  test('answers a row the same to the bit alone, in company, and however a prompt is cut', async () => {
    const mixed = copyOf(attention)
    const together = await operator.run(mixed)
    const apart = copyOf(attention)
    const rows: number[] = []
    let first = 0
    for (const { cacheRow, position, rows: count } of pieces) {
      // One row, then the rest but one, then the last: a prompt, a decode step and rows that a guess adds.
      const cuts = [...new Set([0, Math.min(1, count), Math.max(1, count - 1), count])]
      for (const [i, start] of cuts.slice(0, -1).entries()) {
        const own = { cacheRow, position: position + start, rows: (cuts[i + 1] as number) - start }
        rows.push(...(await operator.run(part(apart, [own], first + start))))
      }
      first += count
    }
    expect(Float32Array.from(rows)).toEqual(together)
    expect(apart.keys).toEqual(mixed.keys)
    expect(apart.values).toEqual(mixed.values)
  })

  test('answers the same to the bit by one thread and by several', async () => {
    const alone = await AttentionUnderTest.open({ library: library ?? '', shape, epsilon: EPSILON, threads: 1 })
    for (const own of [[pieces[1] as Piece], pieces]) {
      expect(await alone.run(attentionCase(shape, own, 8))).toEqual(await operator.run(attentionCase(shape, own, 8)))
    }
    alone.close()
  })

  test('keeps a NaN to its sequence, and to the rows that see it', async () => {
    const usualRows = await operator.run(copyOf(attention))
    const spoilt = copyOf(attention)
    const width = (shape.heads + 2 * shape.kvHeads) * shape.dim
    const qkv = spoilt.qkv.slice()
    // Row 10 is position 128 of the third sequence: only its own query.
    qkv.fill(Number.NaN, 10 * width, 10 * width + columns)
    // What the second sequence holds at position 77.
    for (let head = 0; head < shape.kvHeads; head += 1) {
      spoilt.keys[keyAt(spoilt, 0, head, 77, 5)] = 0x7e01
      spoilt.values[valueAt(spoilt, 0, head, 77, 5)] = 0x7e00
    }
    const found = await operator.run({ ...spoilt, qkv })
    for (let row = 0; row < rowsOf(attention); row += 1) {
      const own = found.subarray(row * columns, (row + 1) * columns)
      if (row === 1 || row === 10) expect(own.some(Number.isFinite), `row ${row}`).toBe(false)
      else expect(own, `row ${row}`).toEqual(usualRows.subarray(row * columns, (row + 1) * columns))
    }
  })
})
