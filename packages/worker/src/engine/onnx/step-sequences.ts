import { strict as assert } from 'node:assert'
import type { SequenceId } from '@quiver/protocol'
import type { EngineStep, StepRow, WantedRow } from '../engine.ts'

/** Rows of one sequence in a step, with the wanted ones among them. */
export interface SequenceRows {
  readonly sequence: SequenceId
  readonly rows: readonly StepRow[]
  /** Index of the first of these rows in the step. */
  readonly firstRow: number
  readonly wanted: readonly WantedRow[]
  /** Whether the hidden states of all these rows are wanted. */
  readonly isPooled: boolean
}

/** The sequences of a step, in their order. Asserts the step's contract (engine.ts) on the way. */
export function sequencesOf(step: EngineStep): SequenceRows[] {
  const sequences: SequenceRows[] = []
  const seen = new Set<SequenceId>()
  const pooled = new Set(step.pooled)
  let wantedAt = 0
  for (let start = 0; start < step.rows.length; ) {
    const first = step.rows[start] as StepRow
    assert(!seen.has(first.sequence), 'rows of a sequence stand together')
    seen.add(first.sequence)
    let end = start + 1
    for (let row = step.rows[end]; row?.sequence === first.sequence; end += 1, row = step.rows[end]) {
      assert(row.position === first.position + end - start && row.slot === first.slot, 'positions ascend and the slot stays')
    }
    const wanted: WantedRow[] = []
    for (let next = step.wanted[wantedAt]; next && next.row < end; wantedAt += 1, next = step.wanted[wantedAt]) {
      assert(next.row >= start, 'wanted rows ascend')
      wanted.push(next)
    }
    const { sequence } = first
    sequences.push({ sequence, rows: step.rows.slice(start, end), firstRow: start, wanted, isPooled: pooled.delete(sequence) })
    start = end
  }
  assert(wantedAt === step.wanted.length, 'every wanted row is in the step')
  assert(pooled.size === 0, 'every pooled sequence has rows in the step')
  return sequences
}
