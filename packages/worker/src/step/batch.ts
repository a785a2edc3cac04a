import assert from 'node:assert/strict'
import type { SlotView } from '@quiver/cache'
import type { AdapterDigest, FinishReason, RunEvent, SequenceId, ServingError } from '@quiver/protocol'
import type { PrefixCache } from '../prefix/prefix-cache.ts'
import type { Sequence, SequenceSlot } from './sequence.ts'
import { flowOf, ServiceLedger } from './service-ledger.ts'
import type { PlannedFinish, StepView } from './step-plan.ts'
import type { StepPace } from './step-times.ts'

export type FinishCause = FinishReason | PlannedFinish['cause'] | 'stopped'

/** What the batch has done since it began. */
export interface BatchCounters {
  steps: number
  failedSteps: number
  rows: number
  prefillRows: number
  /** Without the rows of guesses that did not come true. */
  decodeRows: number
  /** Rows of drafts, and how many of them gave a token. */
  drafted: number
  accepted: number
  admitted: number
  loads: number
  finished: Record<FinishCause, number>
}

/** The sequences of one worker, waiting and running: the only owner of both lists. */
export class Batch {
  readonly #waiting = new Map<SequenceId, Sequence>()
  readonly #running = new Map<SequenceId, Sequence>()
  /** Who has had how much; told of every coming, admission and end by the methods below. */
  readonly ledger = new ServiceLedger()
  readonly #prefix: Pick<PrefixCache, 'cachedTokens'> | undefined
  readonly counters: BatchCounters = {
    steps: 0,
    failedSteps: 0,
    rows: 0,
    prefillRows: 0,
    decodeRows: 0,
    drafted: 0,
    accepted: 0,
    admitted: 0,
    loads: 0,
    finished: { length: 0, eos_token: 0, stop_sequence: 0, cancelled: 0, expired: 0, late: 0, failed: 0, stopped: 0 },
  }

  /** @param prefix what need not be computed of waiting prompts; absent: everything is */
  constructor(prefix?: Pick<PrefixCache, 'cachedTokens'>) {
    this.#prefix = prefix
  }

  get waitingCount(): number {
    return this.#waiting.size
  }
  get runningCount(): number {
    return this.#running.size
  }
  /** Prompt tokens that are still to compute. */
  get queuedTokens(): number {
    let tokens = 0
    for (const { init, computed } of this.all()) tokens += Math.max(0, init.promptIds.length - computed)
    return tokens
  }
  /** Leases on adapters that sequences hold. */
  get adapterLeaseCount(): number {
    return [...this.all()].filter((sequence) => sequence.init.adapter.kind === 'adapter').length
  }

  *all(): Iterable<Sequence> {
    yield* this.#running.values()
    yield* this.#waiting.values()
  }

  add(sequence: Sequence): void {
    this.#waiting.set(sequence.id, sequence)
    this.ledger.enqueue(sequence.init.client, flowOfSequence(sequence), sequence.init.arrivedAtMs)
  }

  find(id: SequenceId): Sequence | undefined {
    return this.#running.get(id) ?? this.#waiting.get(id)
  }

  /** A sequence that a plan speaks of. */
  get(id: SequenceId): Sequence {
    const sequence = this.find(id)
    assert(sequence !== undefined, `the plan names sequence ${id}, which is not in the batch`)
    return sequence
  }

  /** The adapter could not be had: everybody who waits for it ends at the next plan. */
  failAdapter(digest: AdapterDigest, error: ServingError): void {
    for (const sequence of this.#waiting.values()) {
      const { adapter } = sequence.init
      if (adapter.kind === 'adapter' && adapter.lease.digest === digest) sequence.fail(error)
    }
  }

  admit(id: SequenceId, slot: SequenceSlot, nowMs: number): void {
    const sequence = this.get(id)
    sequence.admit(slot, nowMs)
    this.#waiting.delete(id)
    this.#running.set(id, sequence)
    this.ledger.admit(sequence.init.client, flowOfSequence(sequence))
    this.counters.admitted += 1
  }

  /** Ends a sequence; a second end of the same one is not counted. */
  finish(sequence: Sequence, cause: FinishCause, event: Extract<RunEvent, { type: 'done' | 'error' }>): void {
    if (sequence.isFinished) return
    const was = this.#waiting.delete(sequence.id) ? 'waiting' : 'running'
    this.#running.delete(sequence.id)
    this.ledger.leave(sequence.init.client, flowOfSequence(sequence), was)
    this.counters.finished[cause] += 1
    sequence.finish(event)
  }

  view(slots: readonly SlotView[], nowMs: number, pace?: StepPace): StepView {
    return {
      nowMs,
      running: Array.from(this.#running.values(), (sequence) => sequence.runningView()),
      waiting: Array.from(this.#waiting.values(), (sequence) => sequence.waitingView(this.#cachedTokens(sequence))),
      slots,
      tenants: this.ledger.view(nowMs),
      ...(pace === undefined ? {} : { pace }),
    }
  }

  #cachedTokens({ init: { prefixKeys, promptIds } }: Sequence): number {
    return prefixKeys === undefined ? 0 : (this.#prefix?.cachedTokens(prefixKeys, promptIds.length) ?? 0)
  }
}

function flowOfSequence({ init: { adapter } }: Sequence): string {
  return adapter.kind === 'base' ? flowOf(adapter) : flowOf({ kind: 'adapter', digest: adapter.lease.digest })
}
