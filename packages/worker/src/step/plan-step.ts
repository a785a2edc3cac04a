import assert from 'node:assert/strict'
import { BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import { BatchRows, toSegments } from './batch-rows.ts'
import { fairOrder } from './fair-order.ts'
import { Places } from './kept-places.ts'
import { promptRows } from './prompt-rows.ts'
import { SlotTable } from './slot-table.ts'
import { chargesOf } from './step-charges.ts'
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
 * row, and one for each guessed token that is worth it. Prompts, of running and of waiting sequences alike, share `chunkTokens` rows, or what
 * running streams can bear of them, in the order that is fair (`fairOrder`); a long prompt takes several steps and short ones go
 * together. A waiting sequence is admitted when there is a place for its tenant (`Places`), its adapter is in a slot (or it wants the base
 * model) and there are prompt rows left for it; one whose adapter is still on its way is passed over.
 *
 * How unfair this can be. T is the most tokens of one sequence, n the places, w a tenant's weight. Between two tenants that both have
 * requests which could run, over any time, the virtual tokens served over weight differ by at most 2U, U = 2nT / least w (a request
 * is admitted only from the least counter, and what n running sequences are charged afterwards is at most 2nT); with more adapters
 * wanted than slots by 2U + 2·`TURN_TOKENS`. test/worker/step/fairness.test.ts holds this to it.
 *
 * How long somebody waits. Its tenant's turn comes after the others have been served 2U each at most. Then, for a place, as long as the
 * answer that ends first, and not at all while a place is kept for it; for a slot, `OVERTAKEN_MS`, the longest answer in one slot, and a load.
 * @example planStep({ nowMs: 0, running: [], waiting: [], slots: [] }, { sequences: 32, chunkTokens: 128 }).kind // 'idle'
 */
export function planStep(view: StepView, limits: StepLimits): StepPlan {
  const finishes = [...view.running, ...view.waiting].flatMap((sequence) => finishOf(sequence, view.nowMs))
  const leaving = new Set(finishes.map((finish) => finish.sequence))
  const running = view.running.filter((sequence) => !leaving.has(sequence.sequence))
  const waiting = view.waiting.filter((sequence) => !leaving.has(sequence.sequence))
  const order = fairOrder({ view, running, waiting })

  const slots = new SlotTable(
    view.slots,
    order.flatMap((unit) => (isWaiting(unit) && unit.adapter.kind === 'adapter' ? [unit.adapter.digest] : [])),
  )
  checkSlots(view.running, slots)
  for (const { sequence, adapter } of view.running) {
    if (adapter.kind === 'adapter' && leaving.has(sequence)) slots.leave(adapter.slot)
  }
  const decoding = running.filter(({ computed, promptLength }) => computed >= promptLength)
  const ready = waiting.filter((sequence) => !isArriving(sequence)).length
  const prompting = running.length - decoding.length + Math.min(ready, limits.sequences - running.length)
  const contenders = { decoding: decoding.length, prompting }
  const batch = new BatchRows(limits.keepsPace ? promptRows(view.pace, contenders, limits.chunkTokens) : limits.chunkTokens)
  for (const sequence of decoding) batch.add(sequence, slotOf(sequence), sequence.computed)
  const places = new Places({ view, running, waiting, limits })
  const { admissions, loads } = serve(order, slots, batch, places)

  batch.addDrafts(limits.drafts, view.pace)
  const { rows, wanted, pooled, work } = batch.sortedBySlot()
  if (rows.length > 0) {
    return {
      kind: 'run',
      finishes,
      loads,
      admissions,
      rows,
      wanted,
      pooled,
      work,
      segments: toSegments(work),
      charges: chargesOf(work, [...running, ...waiting]),
    }
  }
  const wakeAtMs = waiting.reduce((earliest, sequence) => Math.min(earliest, endOf(sequence)), Number.POSITIVE_INFINITY)
  return { kind: 'idle', finishes, loads, admissions, wakeAtMs }
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

function isWaiting(sequence: RunningView | WaitingView): sequence is WaitingView {
  return 'arrivesByMs' in sequence
}

function isArriving(sequence: RunningView | WaitingView): sequence is WaitingView {
  return isWaiting(sequence) && sequence.adapter.kind === 'adapter' && sequence.adapter.state === 'arriving'
}

/** Every running sequence must still have the weights it began with. */
function checkSlots(running: readonly RunningView[], slots: SlotTable): void {
  for (const { sequence, adapter } of running) {
    if (adapter.kind === 'base') continue
    assert(slots.holds(adapter), `sequence ${sequence}: slot ${adapter.slot} no longer holds ${adapter.digest}`)
  }
}

/** Serves prompts in order. Of those who wait, each asks for its slot, and runs at once where it can. */
function serve(order: readonly (RunningView | WaitingView)[], slots: SlotTable, batch: BatchRows, places: Places) {
  const admissions: Admission[] = []
  const loads: PlannedLoad[] = []
  for (const waiter of order) {
    if (!isWaiting(waiter)) {
      batch.add(waiter, slotOf(waiter), waiter.computed)
      continue
    }
    const { sequence, adapter, client } = waiter
    const takesPlace = () => batch.prefillLeft > 0 && places.take(client.tenant)
    if (adapter.kind === 'base') {
      if (!takesPlace()) continue
      addAdmitted(waiter, BASE_SLOT, batch)
      admissions.push({ sequence, kind: 'base' })
      continue
    }
    // Asked also without room: it keeps the slot from those further back, and a missing adapter is loaded meanwhile.
    const answer = slots.ask(adapter.digest, adapter.state === 'ready')
    if (answer.kind === 'wait') continue
    const { digest } = adapter
    const { slot, generation } = answer
    if (answer.kind === 'load') loads.push({ sequence, digest, slot, generation })
    else if (takesPlace()) {
      slots.join(slot)
      addAdmitted(waiter, slot, batch)
      admissions.push({ sequence, kind: 'adapter', digest, slot, generation })
    }
  }
  return { admissions, loads }
}

function addAdmitted(waiter: WaitingView, slot: SlotIndex, batch: BatchRows): void {
  const { cached = 0 } = waiter
  batch.addCopied(cached)
  batch.add(waiter, slot, cached)
}

function slotOf(sequence: RunningView): SlotIndex {
  return sequence.adapter.kind === 'base' ? BASE_SLOT : sequence.adapter.slot
}
