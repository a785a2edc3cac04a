import assert from 'node:assert/strict'
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import { BatchRows, toSegments } from './batch-rows.ts'
import { SlotTable } from './slot-table.ts'
import type {
  Admission,
  PlannedFinish,
  PlannedLoad,
  RunningView,
  StepLimits,
  StepPlan,
  StepView,
  WaitingView,
} from './step-plan.ts'

/**
 * Decides one step. Reads a snapshot, touches nothing: same input, same plan. `beginStep` and `applyStep` are the only writers.
 *
 * Who is past its deadline, cancelled or failed leaves first, because that makes room. Every sequence that decodes gets one
 * row. Prompts share `chunkTokens` rows, in the order of admission and then of waiting, so a long prompt takes several steps
 * and short ones go together. A waiting sequence is admitted when there is a place, its adapter is in a slot (or it wants the
 * base model) and there are prompt rows left for it; one whose adapter is still on its way is passed over.
 * @example planStep({ nowMs: 0, running: [], waiting: [], slots: [] }, { sequences: 32, chunkTokens: 128 }).kind // 'idle'
 */
export function planStep(view: StepView, limits: StepLimits): StepPlan {
  const finishes = [...view.running, ...view.waiting].flatMap((sequence) => finishOf(sequence, view.nowMs))
  const leaving = new Set(finishes.map((finish) => finish.sequence))
  const running = view.running.filter((sequence) => !leaving.has(sequence.sequence))
  const waiting = inOrder(view.waiting.filter((sequence) => !leaving.has(sequence.sequence)))

  const slots = new SlotTable(
    view.slots,
    waiting.flatMap(({ adapter }) => (adapter.kind === 'base' ? [] : [adapter.digest])),
  )
  checkSlots(view.running, slots)
  for (const { sequence, adapter } of view.running) {
    if (adapter.kind === 'adapter' && leaving.has(sequence)) slots.leave(adapter.slot)
  }
  const batch = new BatchRows(limits.chunkTokens)
  for (const sequence of running) batch.add(sequence, slotOf(sequence), sequence.computed)
  const { admissions, loads } = admit(waiting, slots, batch, limits.sequences - running.length)

  const { rows, wanted, pooled, work } = batch.sortedBySlot()
  if (rows.length > 0) {
    return { kind: 'run', finishes, loads, admissions, rows, wanted, pooled, work, segments: toSegments(work) }
  }
  const wakeAtMs = waiting.reduce((earliest, sequence) => Math.min(earliest, endOf(sequence)), Number.POSITIVE_INFINITY)
  return { kind: 'idle', finishes, loads, admissions, wakeAtMs }
}

/** The order in which waiting sequences are served: first come, first served. */
function inOrder(waiting: readonly WaitingView[]): readonly WaitingView[] {
  return waiting
}

function finishOf(sequence: RunningView | WaitingView, nowMs: number): PlannedFinish[] {
  if (sequence.fate !== 'live') return [{ sequence: sequence.sequence, cause: sequence.fate }]
  if (endOf(sequence) > nowMs) return []
  return [{ sequence: sequence.sequence, cause: isArriving(sequence) ? 'late' : 'expired' }]
}

/** When it can wait or run no longer. */
function endOf(sequence: RunningView | WaitingView): number {
  return isArriving(sequence) ? Math.min(sequence.deadlineAtMs, sequence.arrivesByMs) : sequence.deadlineAtMs
}

function isArriving(sequence: RunningView | WaitingView): sequence is WaitingView {
  return 'arrivesByMs' in sequence && sequence.adapter.kind === 'adapter' && sequence.adapter.state === 'arriving'
}

/** Every running sequence must still have the weights it began with. */
function checkSlots(running: readonly RunningView[], slots: SlotTable): void {
  for (const { sequence, adapter } of running) {
    if (adapter.kind === 'base') continue
    assert(slots.holds(adapter), `sequence ${sequence}: slot ${adapter.slot} no longer holds ${adapter.digest}`)
  }
}

/** Serves the waiting sequences in order: each asks for its slot, and runs at once where it can. */
function admit(waiting: readonly WaitingView[], slots: SlotTable, batch: BatchRows, places: number) {
  const admissions: Admission[] = []
  const loads: PlannedLoad[] = []
  for (const waiter of waiting) {
    const { sequence, adapter } = waiter
    const hasRoom = admissions.length < places && batch.prefillLeft > 0
    if (adapter.kind === 'base') {
      if (!hasRoom) continue
      batch.add(waiter, BASE_SLOT, 0)
      admissions.push({ sequence, kind: 'base' })
      continue
    }
    // Asked also without room: it keeps the slot from those further back, and a missing adapter is loaded meanwhile.
    const answer = slots.ask(adapter.digest, adapter.state === 'ready')
    if (answer.kind === 'wait') continue
    const { digest } = adapter
    const { slot, generation } = answer
    if (answer.kind === 'load') loads.push({ sequence, digest, slot, generation })
    else if (hasRoom) {
      slots.join(slot)
      batch.add(waiter, slot, 0)
      admissions.push({ sequence, kind: 'adapter', digest, slot, generation })
    }
  }
  return { admissions, loads }
}

function slotOf(sequence: RunningView): SlotIndex {
  return sequence.adapter.kind === 'base' ? BASE_SLOT : sequence.adapter.slot
}
