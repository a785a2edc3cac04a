import assert from 'node:assert/strict'
import type { AdapterCache } from '@quiver/cache'
import { BASE_SLOT, type Clock, type Logger, type SequenceId, ServingError, toServingError } from '@quiver/protocol'
import { type BatchState, batchStateOf } from './batch-state.ts'
import type { StreamingEngine, TextPart } from './engine/streaming-engine.ts'
import { LoadMeter } from './load-meter.ts'
import type { Busyness, Runner } from './runner.ts'
import { SlotLoads } from './slot-loads.ts'
import { beginStep, end, endAll, errorEvent, type StepDeps, sendPrompt, takeChosen } from './step/apply-step.ts'
import { Batch } from './step/batch.ts'
import { planStep } from './step/plan-step.ts'
import { type Generation, Sequence, type SequenceInit } from './step/sequence.ts'
import { flowOf } from './step/service-ledger.ts'
import type { Timers } from './timers.ts'
import type { Tokenizer } from './tokenizer/tokenizer.ts'
import { WakeUp } from './wake-up.ts'

export interface StreamLoopDeps {
  readonly engine: StreamingEngine
  readonly cache: Pick<AdapterCache, 'device' | 'loadIntoSlot' | 'usage' | 'activity'>
  readonly tokenizer: Tokenizer
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  /** Share of the places that is kept for tenants who are expected back; absent: none. */
  readonly reservedShare?: number
  /** Called when the batch is another one than before. */
  onChange?(): void
  /** A broken invariant: the process must end and start clean rather than answer wrongly. */
  fatal(error: unknown): void
}

/** Prompts are not cut into chunks here: the server does that for itself. */
const WHOLE_PROMPTS = Number.MAX_SAFE_INTEGER

/**
 * The batch loop of an engine that runs its own batch. Who may run, in which slot, and whose adapter is loaded next is decided
 * by the same planner, and carried out by the same code; only what comes after admission differs: each sequence gets a stream
 * of its own, and its tokens are taken as they arrive, without a plan. A plan is made when somebody arrives, leaves or ends,
 * when an adapter has come, and at the next deadline.
 */
export class StreamLoop implements Runner {
  readonly eosTokenIds: ReadonlySet<number>
  readonly #deps: StreamLoopDeps
  readonly #stepDeps: StepDeps
  readonly #batch = new Batch()
  readonly #meter = new LoadMeter()
  readonly #wakeUp: WakeUp
  readonly #streams = new Map<SequenceId, AbortController>()
  readonly #loads: SlotLoads
  readonly #readers = new Set<Promise<void>>()
  readonly #ended: Promise<void>
  #phase: 'open' | 'closing' | 'broken' = 'open'
  #failure: { readonly thrown: unknown } | undefined
  #lastSignMs = 0
  #whenEmpty: (() => void)[] = []

  constructor(deps: StreamLoopDeps) {
    const { engine, cache, tokenizer, clock } = deps
    this.#deps = deps
    this.#wakeUp = new WakeUp(deps)
    this.#loads = new SlotLoads({
      ...deps,
      loaded: () => this.#wakeUp.ring(),
      failed: (digest, error) => {
        this.#batch.failAdapter(digest, error)
        this.#changed()
      },
    })
    this.eosTokenIds = new Set([...engine.model.eosTokenIds, ...tokenizer.eosTokenIds])
    this.#stepDeps = {
      engine: {
        // Whoever ends has its stream cut: the server need not compute what nobody reads.
        release: (id) => this.#streams.get(id)?.abort(),
        meanHidden: () => assert.fail('an engine that streams gives no hidden states'),
        truncate: () => assert.fail('an engine that streams takes nothing back'),
      },
      device: cache.device,
      tokenizer,
      eosTokenIds: this.eosTokenIds,
      clock,
      startLoad: (lease, slot) => this.#loads.start(lease, slot),
    }
    this.#ended = this.#run()
  }

  get waitingCount(): number {
    return this.#batch.waitingCount
  }

  /** Since any of the streams gave anything; 0 with none. */
  get stepAgeMs(): number {
    return this.#streams.size === 0 ? 0 : this.#deps.clock.nowMs() - this.#lastSignMs
  }

  get isOpen(): boolean {
    return this.#phase === 'open'
  }

  busyness(): Busyness {
    let queuedTokens = 0
    for (const { init, generatedCount } of this.#batch.all()) queuedTokens += generatedCount === 0 ? init.promptIds.length : 0
    const { tokensPerSecond, turnoverMs } = this.#meter
    return { running: this.#batch.runningCount, waiting: this.waitingCount, queuedTokens, tokensPerSecond, turnoverMs }
  }

  sharing(tenant: string) {
    return this.#batch.ledger.sharing(tenant)
  }

  submit(init: SequenceInit): void {
    const sequence = new Sequence(init)
    if (this.#phase !== 'open') {
      sequence.finish(errorEvent(stopping()))
      return
    }
    this.#batch.add(sequence)
    this.#changed()
    if (init.adapter.kind === 'base') return
    init.adapter.lease.ready.then(
      () => this.#wakeUp.ring(),
      (thrown: unknown) => {
        sequence.fail(toServingError(thrown))
        this.#changed()
      },
    )
  }

  cancel(id: SequenceId): void {
    this.#batch.find(id)?.cancel()
    this.#changed()
  }

  whenEmpty(): Promise<void> {
    if (this.#phase !== 'open') return this.#ended
    return new Promise((resolve) => {
      this.#whenEmpty.push(resolve)
      this.#wakeUp.ring()
    })
  }

  async close(): Promise<void> {
    if (this.#phase === 'open') this.#phase = 'closing'
    this.#wakeUp.ring()
    await this.#ended
    await Promise.all([this.#loads.settled(), ...this.#readers])
  }

  state(): BatchState {
    const { cache } = this.#deps
    return batchStateOf({ batch: this.#batch, cache, waiting: this.waitingCount, loading: this.#loads.count })
  }

  async #run(): Promise<void> {
    try {
      // Let the constructor's caller go on first: a sequence may be submitted before the first plan.
      await Promise.resolve()
      while (this.#phase === 'open') await this.#turn()
      endAll(this.#batch, stopping(), this.#stepDeps)
    } catch (thrown) {
      this.#breakDown(thrown)
    }
    this.#tellIfEmpty()
  }

  async #turn(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.thrown
    const nowMs = this.#deps.clock.nowMs()
    const { engine, reservedShare = 0 } = this.#deps
    const limits = { sequences: engine.capacity.sequences, chunkTokens: WHOLE_PROMPTS, reservedShare }
    const plan = planStep(this.#batch.view(this.#deps.cache.device.snapshot(), nowMs), limits)
    beginStep(this.#batch, plan, this.#stepDeps)
    for (const { sequence } of plan.admissions) this.#startStream(this.#batch.get(sequence))
    this.#tellIfEmpty()
    await this.#wakeUp.sleepUntil(this.#nextEndMs())
  }

  /** When somebody's time is over. */
  #nextEndMs(): number {
    const { running, waiting } = this.#batch.view([], this.#deps.clock.nowMs())
    const ends = waiting.map(({ adapter, deadlineAtMs, arrivesByMs }) =>
      adapter.kind === 'adapter' && adapter.state === 'arriving' ? Math.min(deadlineAtMs, arrivesByMs) : deadlineAtMs,
    )
    return Math.min(...ends, ...running.map(({ deadlineAtMs }) => deadlineAtMs))
  }

  #startStream(sequence: Sequence): void {
    const { init, id } = sequence
    assert(init.kind === 'generate', 'an engine that streams refuses embeddings')
    // For the planner: one row is always missing, as in a sequence that decodes.
    sequence.advance(init.promptIds.length - 1)
    const abort = new AbortController()
    if (this.#streams.size === 0) this.#lastSignMs = this.#deps.clock.nowMs()
    this.#streams.set(id, abort)
    const reader = this.#read(sequence, init, abort.signal).catch((thrown: unknown) => {
      this.#failure = { thrown }
      this.#wakeUp.ring()
    })
    this.#readers.add(reader)
    void reader.finally(() => {
      this.#readers.delete(reader)
      this.#streams.delete(id)
      this.#changed()
    })
  }

  async #read(sequence: Sequence, generation: Generation & SequenceInit, signal: AbortSignal): Promise<void> {
    const startedAtMs = this.#deps.clock.nowMs()
    try {
      for await (const part of this.#deps.engine.generate(this.#requestOf(sequence, generation), signal)) {
        if (sequence.isFinished) return
        this.#lastSignMs = this.#deps.clock.nowMs()
        this.#take(sequence, generation, part, startedAtMs)
        if (sequence.isFinished) return
      }
      throw new ServingError('worker_lost', 'the server behind this worker ended the text before it was complete')
    } catch (thrown) {
      if (sequence.isFinished) return
      // An expected failure concerns this sequence alone; anything else is our own bug and ends the process in the loop.
      if (!(thrown instanceof ServingError)) throw thrown
      this.#deps.log('warn', 'a stream failed', { requestId: generation.requestId, code: thrown.code, cause: thrown.message })
      this.#batch.counters.failedSteps += 1
      end(this.#batch, sequence, 'failed', errorEvent(thrown), this.#stepDeps)
    }
  }

  #take(sequence: Sequence, generation: Generation & SequenceInit, part: TextPart, startedAtMs: number): void {
    const { counters } = this.#batch
    if (part.type === 'prompt') {
      for (const logprob of part.logprobs) sequence.notePromptLogprob(logprob)
      sendPrompt(sequence, this.#stepDeps)
      return
    }
    const promptRows = sequence.generatedCount === 0 ? generation.promptIds.length : 0
    const rows = Math.max(1, promptRows)
    counters.rows += rows
    if (promptRows > 0) {
      counters.prefillRows += rows
      this.#meter.step(promptRows, this.#deps.clock.nowMs() - startedAtMs)
    } else counters.decodeRows += rows
    this.#charge(generation, promptRows)
    sequence.advance(1)
    takeChosen(this.#batch, { sequence, generation, chosen: { ...part, isSkipped: false } }, this.#stepDeps)
    if (sequence.isFinished) this.#meter.ended(1, this.#deps.clock.nowMs(), this.waitingCount > 0)
    this.#deps.onChange?.()
  }

  /** As a step charges: 1 for a prompt's token, 2 for one of an answer. */
  #charge({ client: { tenant }, adapter }: SequenceInit, promptRows: number): void {
    const flow = flowOf(adapter.kind === 'base' ? adapter : { kind: 'adapter', digest: adapter.lease.digest })
    this.#batch.ledger.charge([{ tenant, flow, tokens: promptRows > 0 ? promptRows : 2 }], this.#deps.clock.nowMs())
  }

  #requestOf(sequence: Sequence, generation: Generation & SequenceInit) {
    const { adapter } = sequence.runningView()
    const { promptIds, sampling, sampler, grammar, maxNewTokens, alternatives, ignoreEos, constraint } = generation
    return {
      promptIds,
      slot: adapter.kind === 'adapter' ? adapter.slot : BASE_SLOT,
      sampling,
      seed: sampler.seed,
      grammar,
      maxNewTokens,
      alternatives,
      promptDetails: generation.prefillDetails,
      endTokenIds: ignoreEos && constraint === undefined ? [] : [...this.eosTokenIds],
    }
  }

  #changed(): void {
    this.#deps.onChange?.()
    this.#wakeUp.ring()
  }

  #tellIfEmpty(): void {
    if (this.#whenEmpty.length === 0 || this.#batch.runningCount + this.waitingCount > 0) return
    for (const resolve of this.#whenEmpty.splice(0)) resolve()
  }

  /** Nobody may be answered from a state that is known to be wrong: every stream ends with an error, then the process does. */
  #breakDown(thrown: unknown): void {
    this.#phase = 'broken'
    const error = errorEvent(new ServingError('internal', 'internal error', {}, { cause: thrown }))
    for (const sequence of [...this.#batch.all()]) end(this.#batch, sequence, 'stopped', error, this.#stepDeps)
    this.#deps.fatal(thrown)
  }
}

function stopping(): ServingError {
  return new ServingError('draining', 'the worker is stopping')
}
