/** How a step is cut for `GroupQueryAttention`, wherever keys and values lie. */
import type { SequenceId } from '@quiver/protocol'
import type { InputTensor } from './adapter-pools.ts'
import type { AttentionRun, CacheBinding } from './attention-cache.ts'
import type { RowTable } from './row-table.ts'
import type { SequenceRows } from './step-sequences.ts'

const DECODE = 'decode'
const PREFILL = 'prefill'
export const batchLanes = [DECODE, PREFILL] as const

/**
 * Sequences with one row as one batch, each longer piece of a prompt by itself.
 * @param bind the cache's rows from `firstRow` on, `batch` of them
 */
export function batchRuns(
  sequences: readonly SequenceRows[],
  table: RowTable,
  bind: (firstRow: number, batch: number) => CacheBinding,
): AttentionRun[] {
  const run = (lane: string, firstRow: number, own: readonly SequenceRows[]): AttentionRun => ({
    lane,
    sequences: own,
    inputs: inputsOf(own),
    cache: bind(firstRow, own.length),
  })
  const decode = new Map(sequences.flatMap((rows) => (rows.rows.length === 1 ? [[rows.sequence, rows] as const] : [])))
  const ids: SequenceId[] = [...decode.keys()]
  const ordered = table.gather(ids).map((sequence) => decode.get(sequence) as SequenceRows)
  const prefill = sequences.filter(({ rows }) => rows.length > 1)
  return [
    ...(ordered.length > 0 ? [run(DECODE, 0, ordered)] : []),
    ...prefill.map((rows) => run(PREFILL, table.row(rows.sequence), [rows])),
  ]
}

/** The name of one of the cache's arrays, which stand per layer: keys, then values. */
export function cacheName(index: number): string {
  return `${index % 2 === 0 ? 'key' : 'value'}.${index >> 1}`
}

function inputsOf(sequences: readonly SequenceRows[]): InputTensor[] {
  const batch = sequences.length
  const keys = Int32Array.from(sequences, ({ rows }) => (rows[0]?.position ?? 0) + rows.length)
  const shape = BigInt64Array.of(BigInt(batch), BigInt(sequences[0]?.rows.length ?? 0), -1n)
  return [
    { name: 'attention_shape', type: 'i64', shape: [3], data: shape },
    { name: 'seqlens_k', type: 'i32', shape: [batch], data: keys.map((count) => count - 1) },
    { name: 'total_length', type: 'i32', shape: [], data: Int32Array.of(Math.max(...keys)) },
  ]
}
