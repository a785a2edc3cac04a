import assert from 'node:assert/strict'
import type { SequenceId, SlotIndex } from '@quiver/protocol'
import type { StepRow, WantedRow } from '../engine/engine.ts'
import { BLOCK_TOKENS } from '../prefix/block-keys.ts'
import { type DraftRules, draftLengths } from './draft-lengths.ts'
import type { RunningView, RunPlan, Segment, SequenceRows, WaitingView } from './step-plan.ts'
import type { RowCounts, StepPace } from './step-times.ts'

interface Part {
  readonly sequence: RunningView | WaitingView
  readonly slot: SlotIndex
  readonly from: number
  readonly count: number
  draft: readonly number[]
}

/** Collects the rows of a step. */
export class BatchRows {
  /** Prompt rows that may still be added. */
  prefillLeft: number
  readonly #parts: Part[] = []

  constructor(promptRows: number) {
    this.prefillLeft = promptRows
  }

  /**
   * Counts tokens that are copied from the prefix cache before the step as prompt rows, so that what all running sequences wait
   * for stays bounded: a block takes about the time of a row, or less. One row is left, so that whoever is admitted begins.
   */
  addCopied(tokens: number): void {
    this.prefillLeft = Math.max(1, this.prefillLeft - Math.ceil(tokens / BLOCK_TOKENS))
  }

  /** Adds a sequence's next rows: one if it decodes, else as much of its prompt as is left of the chunk. */
  add(sequence: RunningView | WaitingView, slot: SlotIndex, computed: number): void {
    const missing = sequence.tokens.length - computed
    const decodes = computed >= sequence.promptLength
    assert(missing > 0, `sequence ${sequence.sequence} has nothing to compute`)
    assert(!decodes || missing === 1, `sequence ${sequence.sequence} has ${missing} uncomputed tokens after its prompt`)
    const count = decodes ? 1 : Math.min(missing, this.prefillLeft)
    if (count === 0) return
    if (!decodes) this.prefillLeft -= count
    this.#parts.push({ sequence, slot, from: computed, count, draft: [] })
  }

  /** Adds rows of drafts, once all other rows are there. */
  addDrafts(rules: DraftRules | undefined, pace: StepPace | undefined): void {
    if (rules === undefined) return
    const decoding = this.#parts.filter(decodes)
    const prompts = this.#parts.reduce((rows, part) => rows + (decodes(part) ? 0 : part.count), 0)
    const offers = decoding.flatMap((part) => {
      const draft = 'draft' in part.sequence ? part.sequence.draft : undefined
      return draft === undefined ? [] : [{ part, draft, tokens: draft.tokens.length, chance: draft.chance }]
    })
    const lengths = draftLengths(offers, { answers: decoding.length, prompts }, rules, pace)
    for (const [index, { part, draft }] of offers.entries()) part.draft = draft.tokens.slice(0, lengths[index])
  }

  /** The rows with those of one slot side by side, in the order of adding within a slot. */
  sortedBySlot() {
    const rows: StepRow[] = []
    const wanted: WantedRow[] = []
    const pooled: SequenceId[] = []
    const work: SequenceRows[] = []
    for (const part of this.#parts.toSorted((a, b) => a.slot - b.slot)) {
      const { sequence, slot, from, count, draft } = part
      if (sequence.embeds) pooled.push(sequence.sequence)
      const phase = decodes(part) ? 'decode' : 'prefill'
      work.push({ sequence: sequence.sequence, slot, phase, firstRow: rows.length, rowCount: count + draft.length, draft })
      for (const [index, token] of [...sequence.tokens.slice(from, from + count), ...draft].entries()) {
        const position = from + index
        const isNext = position >= sequence.tokens.length - 1
        const isWanted = !sequence.embeds && (isNext || sequence.promptDetails)
        if (isWanted) wanted.push({ row: rows.length, top: isNext ? sequence.top : 1 })
        rows.push({ sequence: sequence.sequence, position, token, slot })
      }
    }
    return { rows, wanted, pooled, work }
  }
}

function decodes({ sequence, from }: Part): boolean {
  return from >= sequence.promptLength
}

export function rowCounts({ rows, work }: Pick<RunPlan, 'rows' | 'work'>): RowCounts {
  const prompts = work.reduce((sum, { phase, rowCount }) => sum + (phase === 'prefill' ? rowCount : 0), 0)
  return { answers: rows.length - prompts, prompts }
}

/** Neighbouring rows of one slot, together. */
export function toSegments(work: readonly SequenceRows[]): Segment[] {
  const segments: Segment[] = []
  for (const { slot, firstRow, rowCount } of work) {
    const last = segments.at(-1)
    if (last?.slot === slot) segments[segments.length - 1] = { ...last, rowCount: last.rowCount + rowCount }
    else segments.push({ slot, firstRow, rowCount })
  }
  return segments
}
