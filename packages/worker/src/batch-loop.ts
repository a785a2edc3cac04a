import type { AdapterCache } from '@quiver/cache'
import { type AdapterDigest, type Clock, type Logger, type SequenceId, ServingError, toServingError } from '@quiver/protocol'
import { type BatchState, batchStateOf } from './batch-state.ts'
import type { Engine, StepResult } from './engine/engine.ts'
import { EngineBroken } from './engine/engine-broken.ts'
import { LoadMeter } from './load-meter.ts'
import type { PrefixCache } from './prefix/prefix-cache.ts'
import { SlotLoads } from './slot-loads.ts'
import { abandonStep, applyStep, beginStep, endAll, errorEvent, type StepDeps } from './step/apply-step.ts'
import { Batch } from './step/batch.ts'
import { rowCounts } from './step/batch-rows.ts'
import { planStep } from './step/plan-step.ts'
import { Sequence, type SequenceInit } from './step/sequence.ts'
import { type Drafting, draftingOf, type Speculation, stepLimits } from './step/speculation.ts'
import type { RunPlan, StepLimits } from './step/step-plan.ts'
import { StepTimes } from './step/step-times.ts'
import type { Timers } from './timers.ts'
import type { Tokenizer } from './tokenizer/tokenizer.ts'
import { WakeUp } from './wake-up.ts'

export interface BatchLoopDeps {
  readonly engine: Engine
  readonly cache: Pick<AdapterCache, 'device' | 'loadIntoSlot' | 'usage' | 'activity'>
  readonly tokenizer: Tokenizer
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  /** Absent: nothing is guessed, and chunks of prompts are whole, whatever they do to running streams. */
  readonly speculation?: Speculation
  readonly keepsPace?: boolean
  /** Absent: every prompt is computed whole. */
  readonly prefix?: PrefixCache | undefined
  /** Share of the places that is kept for tenants who are expected back; absent: none. */
  readonly reservedShare?: number
  /** Called when the batch is another one than before. */
  onChange?(): void
  /** Called before and after every step; must be quick and must not throw. */
  onStep?(mark: StepMark): void
  /** A broken invariant: the process must end and start clean rather than answer wrongly. */
  fatal(error: unknown): void
}

/** One step, for who wants to know what was computed last. Of a step that fails only the beginning is told. */
export interface StepMark {
  /** Counted from 1 since the start. */
  readonly step: number
  readonly rows: number
  readonly sequences: number
  readonly isOver: boolean
}

/** So many failed steps in a row are no longer bad luck: the engine is broken and the process must start clean. */
const FAILED_STEPS_IN_A_ROW = 3

/** What happens to the batch between two steps; nothing but the loop itself touches a sequence. */
type BatchEvent =
  | { readonly type: 'arrived'; readonly sequence: Sequence }
  | { readonly type: 'cancelled'; readonly id: SequenceId }
  /** One sequence's adapter did not arrive; others may still wait for the same one. */
  | { readonly type: 'lease_failed'; readonly id: SequenceId; readonly error: ServingError }
  /** An adapter could not be put into a slot: nobody who waits for it can be served. */
  | { readonly type: 'load_failed'; readonly digest: AdapterDigest; readonly error: ServingError }

/**
 * Continuous batching: gather what happened, plan, compute, apply, again. Sequences join and leave at every step. Nothing is
 * awaited but the engine: adapters arrive and are copied into slots beside the steps, and their coming is one more event.
 * With nothing to compute the loop sleeps until something happens or the next deadline.
 *
 * It does not give way between steps by itself: sockets are served while the engine computes off the event loop.
 */
export class BatchLoop {
  readonly #deps: BatchLoopDeps
  readonly #limits: StepLimits
  readonly #stepDeps: StepDeps
  readonly #batch: Batch
  readonly #meter = new LoadMeter()
  readonly #times = new StepTimes()
  readonly #drafting: Drafting | undefined
  readonly #wakeUp: WakeUp
  readonly #ended: Promise<void>
  readonly #loads: SlotLoads
  #events: BatchEvent[] = []
  #phase: 'open' | 'closing' | 'broken' = 'open'
  #stepStartedAtMs: number | undefined
  #failedInARow = 0
  /** Told by a load: the engine will never compute again. */
  #engineBroken: EngineBroken | undefined
  #whenEmpty: (() => void)[] = []

  constructor(deps: BatchLoopDeps) {
    this.#deps = deps
    this.#batch = new Batch(deps.prefix)
    const eosTokenIds = new Set([...deps.engine.model.eosTokenIds, ...deps.tokenizer.eosTokenIds])
    this.#drafting = draftingOf(deps.speculation ?? 0, deps.engine, eosTokenIds)
    this.#limits = { ...stepLimits(deps, this.#drafting), reservedShare: deps.reservedShare ?? 0 }
    this.#wakeUp = new WakeUp(deps)
    this.#loads = new SlotLoads({
      ...deps,
      loaded: () => this.#wakeUp.ring(),
      failed: (digest, error) => this.#post({ type: 'load_failed', digest, error }),
    })
    this.#stepDeps = {
      engine: deps.engine,
      device: deps.cache.device,
      tokenizer: deps.tokenizer,
      eosTokenIds,
      clock: deps.clock,
      prefix: deps.prefix,
      startLoad: (lease, slot) => this.#loads.start(lease, slot),
    }
    this.#ended = this.#run()
  }

  /** Sequences that have arrived and are not admitted yet. */
  get waitingCount(): number {
    return this.#batch.waitingCount + this.#events.filter((event) => event.type === 'arrived').length
  }

  /** How long the step in progress has been running; 0 between steps. A large value means that the engine hangs. */
  get stepAgeMs(): number {
    return this.#stepStartedAtMs === undefined ? 0 : this.#deps.clock.nowMs() - this.#stepStartedAtMs
  }

  /** What who places requests wants to know. */
  busyness() {
    return {
      running: this.#batch.runningCount,
      waiting: this.waitingCount,
      queuedTokens: this.#batch.queuedTokens,
      tokensPerSecond: this.#meter.tokensPerSecond,
      turnoverMs: this.#meter.turnoverMs,
    }
  }

  sharing(tenant: string) {
    return this.#batch.ledger.sharing(tenant)
  }

  /** Tokens that end a text: those of the model and of its tokenizer. */
  get eosTokenIds(): ReadonlySet<number> {
    return this.#stepDeps.eosTokenIds
  }

  get isOpen(): boolean {
    return this.#phase === 'open'
  }

  /** Takes a sequence over, with its lease. After the end it is answered at once with an error. */
  submit(init: SequenceInit): void {
    const sequence = new Sequence(init, this.#drafting?.drafterFor(init))
    if (this.#phase !== 'open') {
      sequence.finish(errorEvent(stopping()))
      return
    }
    this.#post({ type: 'arrived', sequence })
    if (init.adapter.kind === 'base') return
    const { lease } = init.adapter
    lease.ready.then(
      () => this.#wakeUp.ring(),
      (thrown: unknown) => this.#post({ type: 'lease_failed', id: init.id, error: toServingError(thrown) }),
    )
  }

  /** The client has gone: the sequence is out of the batch when the step in progress ends. Unknown ones are ignored. */
  cancel(id: SequenceId): void {
    this.#post({ type: 'cancelled', id })
  }

  /** Resolves once nothing waits or runs, at the latest with the loop's end. */
  whenEmpty(): Promise<void> {
    if (this.#phase !== 'open') return this.#ended
    return new Promise((resolve) => {
      this.#whenEmpty.push(resolve)
      this.#wakeUp.ring()
    })
  }

  /** Ends every sequence with `draining` after the step in progress, then waits for loads that are under way. */
  async close(): Promise<void> {
    if (this.#phase === 'open') this.#phase = 'closing'
    this.#wakeUp.ring()
    await this.#ended
    await this.#loads.settled()
  }

  state(): BatchState {
    const { cache, prefix } = this.#deps
    const [waiting, loading] = [this.waitingCount, this.#loads.count]
    return batchStateOf({ batch: this.#batch, cache, waiting, loading, prefix: prefix?.usage() })
  }

  async #run(): Promise<void> {
    try {
      // Let the constructor's caller go on first: a sequence may be submitted before the first plan.
      await Promise.resolve()
      while (this.#phase === 'open') await this.#turn()
      this.#gather()
      endAll(this.#batch, stopping(), this.#stepDeps)
    } catch (thrown) {
      this.#breakDown(thrown)
    }
    this.#tellIfEmpty()
  }

  async #turn(): Promise<void> {
    this.#gather()
    if (this.#engineBroken !== undefined) throw this.#engineBroken
    const nowMs = this.#deps.clock.nowMs()
    const plan = planStep(this.#batch.view(this.#deps.cache.device.snapshot(), nowMs, this.#times.pace()), this.#limits)
    beginStep(this.#batch, plan, this.#stepDeps)
    this.#tellIfEmpty()
    if (plan.kind === 'idle') return this.#wakeUp.sleepUntil(plan.wakeAtMs)
    const copyingFromMs = this.#deps.clock.nowMs()
    await this.#deps.prefix?.restored()
    const copyingMs = this.#deps.clock.nowMs() - copyingFromMs
    const result = await this.#compute(plan)
    if (result === undefined) return
    const running = this.#batch.runningCount
    applyStep(this.#batch, plan, result, this.#stepDeps)
    // What was copied is another number with every plan, and no row's.
    this.#times.record(rowCounts(plan), this.#deps.clock.nowMs() - nowMs - copyingMs)
    this.#meter.ended(running - this.#batch.runningCount, this.#deps.clock.nowMs(), this.waitingCount > 0)
    this.#deps.onChange?.()
  }

  /** @returns undefined when the step failed; its sequences have then ended */
  async #compute(plan: RunPlan): Promise<StepResult | undefined> {
    const startedAtMs = this.#deps.clock.nowMs()
    this.#stepStartedAtMs = startedAtMs
    const { steps, failedSteps } = this.#batch.counters
    const mark = { step: steps + failedSteps + 1, rows: plan.rows.length, sequences: plan.work.length }
    this.#deps.onStep?.({ ...mark, isOver: false })
    try {
      const result = await this.#deps.engine.step({ rows: plan.rows, wanted: plan.wanted, pooled: plan.pooled })
      this.#deps.onStep?.({ ...mark, isOver: true })
      this.#failedInARow = 0
      this.#meter.step(rowCounts(plan).prompts, this.#deps.clock.nowMs() - startedAtMs)
      return result
    } catch (thrown) {
      this.#failedInARow += 1
      this.#deps.log('error', 'a step failed; its sequences are ended', {
        rows: plan.rows.length,
        sequences: plan.work.length,
        failedInARow: this.#failedInARow,
        cause: String(thrown),
      })
      abandonStep(this.#batch, plan, thrown, this.#stepDeps)
      if (thrown instanceof EngineBroken || this.#failedInARow >= FAILED_STEPS_IN_A_ROW) throw thrown
      return undefined
    } finally {
      this.#stepStartedAtMs = undefined
    }
  }

  #post(event: BatchEvent): void {
    this.#events.push(event)
    this.#deps.onChange?.()
    this.#wakeUp.ring()
  }

  #gather(): void {
    const events = this.#events
    this.#events = []
    for (const event of events) {
      if (event.type === 'arrived') this.#batch.add(event.sequence)
      else if (event.type === 'cancelled') this.#batch.find(event.id)?.cancel()
      else if (event.type === 'lease_failed') this.#batch.find(event.id)?.fail(event.error)
      else {
        this.#batch.failAdapter(event.digest, event.error)
        if (event.error instanceof EngineBroken) this.#engineBroken = event.error
      }
    }
  }

  #tellIfEmpty(): void {
    if (this.#whenEmpty.length === 0 || this.#batch.runningCount + this.waitingCount > 0) return
    const resolvers = this.#whenEmpty
    this.#whenEmpty = []
    for (const resolve of resolvers) resolve()
  }

  /** Nobody may be answered from a state that is known to be wrong: every stream ends with an error, then the process does. */
  #breakDown(thrown: unknown): void {
    this.#phase = 'broken'
    this.#gather()
    const error = errorEvent(new ServingError('internal', 'internal error', {}, { cause: thrown }))
    for (const sequence of [...this.#batch.all()]) this.#batch.finish(sequence, 'stopped', error)
    this.#deps.fatal(thrown)
  }
}

function stopping(): ServingError {
  return new ServingError('draining', 'the worker is stopping')
}
