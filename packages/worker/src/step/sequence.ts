import assert from 'node:assert/strict'
import type { AdapterLease, SlotLease } from '@quiver/cache'
import type { DoneEvent, FinishReason, Grammar, RunEvent, SamplingParameters, SequenceId, ServingError } from '@quiver/protocol'
import type { Constraint } from '../sampling/constrained.ts'
import type { Sampler } from '../sampling/sampler.ts'
import type { StopSequences } from '../sampling/stop-sequences.ts'
import type { TokenStream } from '../tokenizer/tokenizer.ts'
import type { Draft, Drafter } from './drafter.ts'
import type { SequenceClient } from './service-ledger.ts'
import type { RunningView, SequenceFate, WaitingView } from './step-plan.ts'

/** Where a sequence's events go. Neither throws nor waits; what cannot be delivered is dropped there. */
export interface EventSink {
  send(event: RunEvent): void
}

/** Everything that is fixed about a sequence when it arrives. */
export type SequenceInit = CommonInit & Task
/** What a sequence is there for: a text, or the mean of its prompt's hidden states. */
export type Task = Generation | { readonly kind: 'embed' }

interface CommonInit {
  readonly id: SequenceId
  readonly requestId: string
  readonly client: SequenceClient
  readonly promptIds: readonly number[]
  /** The sequence owns the lease from here on. */
  readonly adapter: SequenceAdapter
  readonly arrivedAtMs: number
  readonly deadlineAtMs: number
  /** When it stops waiting for an adapter that is still on its way. */
  readonly arrivesByMs: number
  readonly sink: EventSink
  /** The names of its prompt's blocks in the prefix cache; absent: it computes all of its prompt and shares nothing. */
  readonly prefixKeys?: readonly string[] | undefined
}

export interface Generation {
  readonly kind: 'generate'
  /** At least 1; prompt and answer together fit into the engine. */
  readonly maxNewTokens: number
  readonly ignoreEos: boolean
  /** Alternatives reported beside every token, 0 for none. */
  readonly alternatives: number
  readonly prefillDetails: boolean
  /** What the sampler was made of, and what the answer must look like: an engine that chooses the tokens itself asks for it. */
  readonly sampling: SamplingParameters
  readonly grammar?: Grammar | undefined
  readonly sampler: Sampler
  readonly stops: StopSequences
  readonly text: TokenStream
  /** What the sampler keeps to, where the answer must have a form; the sequence closes it. */
  readonly constraint?: Constraint
}

export type SequenceAdapter = { readonly kind: 'base' } | { readonly kind: 'adapter'; readonly lease: AdapterLease }

/** What a sequence computes with once it is admitted. */
export type SequenceSlot = { readonly kind: 'base' } | { readonly kind: 'adapter'; readonly lease: SlotLease }

type Phase =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'running'; readonly slot: SequenceSlot; readonly admittedAtMs: number }
  | { readonly kind: 'finished' }

/**
 * One run from arrival to its last event. It holds leases on its adapter and, while it runs, on a slot; `finish` gives
 * both back and sends the terminal event, once, whatever else happens at the same time.
 */
export class Sequence {
  readonly init: SequenceInit
  readonly #tokens: number[]
  /** Of each prompt token, given those before it; the first has none. Filled only with `prefillDetails`. */
  readonly #promptLogprobs: number[] = []
  #phase: Phase = { kind: 'waiting' }
  #fate: SequenceFate = 'live'
  #failure: ServingError | undefined
  readonly #drafter: Drafter | undefined
  #computed = 0
  #skipped = 0
  #cached = 0
  #firstTokenAtMs = 0

  /** @param drafter guesses how the text goes on; absent: nobody does */
  constructor(init: SequenceInit, drafter?: Drafter) {
    assert(init.promptIds.length > 0, `sequence ${init.id} has no prompt`)
    this.init = init
    this.#tokens = [...init.promptIds]
    this.#drafter = drafter
  }

  get id(): SequenceId {
    return this.init.id
  }
  get tokens(): readonly number[] {
    return this.#tokens
  }
  get generatedIds(): readonly number[] {
    return this.#tokens.slice(this.init.promptIds.length)
  }
  get promptLogprobs(): readonly number[] {
    return this.#promptLogprobs
  }
  get generatedCount(): number {
    return this.#tokens.length - this.init.promptIds.length
  }
  /** Generated tokens that had been guessed, so that they took no step of their own. */
  get skippedCount(): number {
    return this.#skipped
  }
  get computed(): number {
    return this.#computed
  }
  get isFinished(): boolean {
    return this.#phase.kind === 'finished'
  }
  /** Why the adapter cannot be had; set when its fate is `failed`. */
  get failure(): ServingError | undefined {
    return this.#failure
  }
  /** All tokens so far are computed: the next one can be chosen. */
  get isCurrent(): boolean {
    return this.#computed === this.#tokens.length
  }

  cancel(): void {
    this.#fate = 'cancelled'
  }

  /** Its adapter cannot be had. A running sequence has its weights already and is not touched. */
  fail(error: ServingError): void {
    if (this.#phase.kind !== 'waiting' || this.#fate !== 'live') return
    this.#fate = 'failed'
    this.#failure = error
  }

  admit(slot: SequenceSlot, nowMs: number): void {
    assert(this.#phase.kind === 'waiting', `sequence ${this.id} is admitted twice`)
    this.#phase = { kind: 'running', slot, admittedAtMs: nowMs }
  }

  /** So many tokens are copied for it and need no rows. */
  takeCached(count: number): void {
    this.#cached = count
    this.advance(count)
  }

  /** The engine holds this many tokens more. */
  advance(count: number): void {
    this.#computed += count
    assert(this.#computed <= this.#tokens.length, `sequence ${this.id} is computed beyond its end`)
  }

  notePromptLogprob(logprob: number): void {
    this.#promptLogprobs.push(logprob)
  }

  /** @param isSkipped it came from a row of a draft */
  push(token: number, nowMs: number, isSkipped = false): void {
    if (this.generatedCount === 0) this.#firstTokenAtMs = nowMs
    this.#tokens.push(token)
    if (isSkipped) this.#skipped += 1
    this.#drafter?.came(token)
  }

  /** The terminal event of a run that came to its end. */
  doneEvent(end: { readonly reason: FinishReason; readonly text: string; readonly nowMs: number }): DoneEvent {
    assert(this.#phase.kind === 'running', `sequence ${this.id} is done without having run`)
    const { arrivedAtMs, promptIds } = this.init
    const seed = this.init.kind === 'generate' ? this.init.sampler.seed : undefined
    const { admittedAtMs } = this.#phase
    return {
      type: 'done',
      finishReason: end.reason,
      generatedText: end.text,
      promptTokens: promptIds.length,
      ...(this.#cached === 0 ? {} : { cachedTokens: this.#cached }),
      generatedTokens: this.generatedCount,
      ...(this.#skipped === 0 ? {} : { skippedTokens: this.#skipped }),
      ...(seed === undefined ? {} : { seed }),
      queueMs: admittedAtMs - arrivedAtMs,
      inferenceMs: end.nowMs - admittedAtMs,
      firstTokenMs: (this.generatedCount === 0 ? end.nowMs : this.#firstTokenAtMs) - arrivedAtMs,
    }
  }

  /** Sends the terminal event and gives the leases back. Later calls do nothing. */
  finish(event: Extract<RunEvent, { type: 'done' | 'error' }>): void {
    const phase = this.#phase
    if (phase.kind === 'finished') return
    this.#phase = { kind: 'finished' }
    if (phase.kind === 'running' && phase.slot.kind === 'adapter') phase.slot.lease.release()
    if (this.init.adapter.kind === 'adapter') this.init.adapter.lease.release()
    if (this.init.kind === 'generate') this.init.constraint?.close()
    this.init.sink.send(event)
  }

  /** @param cached tokens of its prompt that the prefix cache has */
  waitingView(cached = 0): WaitingView {
    const { adapter } = this.init
    return {
      ...this.#commonView(),
      ...(cached === 0 ? {} : { cached }),
      arrivedAtMs: this.init.arrivedAtMs,
      arrivesByMs: this.init.arrivesByMs,
      adapter:
        adapter.kind === 'base'
          ? adapter
          : {
              kind: 'adapter',
              digest: adapter.lease.digest,
              state: adapter.lease.state === 'ready' ? 'ready' : 'arriving',
            },
    }
  }

  runningView(): RunningView {
    const phase = this.#phase
    assert(phase.kind === 'running', `sequence ${this.id} does not run`)
    const { slot } = phase
    const draft = this.#draft()
    return {
      ...this.#commonView(),
      computed: this.#computed,
      ...(draft === undefined ? {} : { draft }),
      adapter:
        slot.kind === 'base'
          ? slot
          : { kind: 'adapter', digest: slot.lease.digest, slot: slot.lease.slot, generation: slot.lease.generation },
    }
  }

  #draft(): Draft | undefined {
    const { init } = this
    const decodes = this.generatedCount > 0 && this.#computed === this.#tokens.length - 1
    if (init.kind === 'embed' || !decodes) return undefined
    return this.#drafter?.guess(this.#tokens, init.maxNewTokens - this.generatedCount)
  }

  #commonView() {
    const { init } = this
    const { id, client, deadlineAtMs, promptIds } = init
    const isText = init.kind === 'generate'
    return {
      sequence: id,
      client,
      deadlineAtMs,
      fate: this.#fate,
      tokens: this.#tokens,
      promptLength: promptIds.length,
      top: isText ? Math.max(1, init.alternatives) : 1,
      promptDetails: isText && init.prefillDetails,
      embeds: !isText,
    }
  }
}
