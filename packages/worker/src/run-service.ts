import type { AdapterCache } from '@quiver/cache'
import {
  type Clock,
  type Grammar,
  limits,
  type RunRequest,
  type SequenceId,
  ServingError,
  type TextToken,
  type TokenizeRequest,
  toServingError,
} from '@quiver/protocol'
import { AdapterLeases } from './adapter-leases.ts'
import { type Arrived, arrivalEnd, clientOf, grammarOf, leavingSink, type Run } from './arrived-run.ts'
import type { BatchState } from './batch-state.ts'
import type { PrefixCache } from './prefix/prefix-cache.ts'
import { promptKeys } from './prefix/prompt-keys.ts'
import { tokensOf, type Work, type WorkDeps, workOf } from './run-work.ts'
import type { Runner } from './runner.ts'
import { type Constraint, constrainedSampler } from './sampling/constrained.ts'
import { errorEvent } from './step/apply-step.ts'
import type { EventSink, Generation, SequenceAdapter } from './step/sequence.ts'
import { retryAfter, type TenantLimits, TenantQueues } from './tenant-queues.ts'
import { deadlineOf, inTime } from './time-limit.ts'
import type { Timers } from './timers.ts'
import type { RenderedConversation } from './tokenizer/adapter-templates.ts'
import { inTurns, type Slices } from './tokenizer/slices.ts'

export interface RunServiceDeps extends WorkDeps {
  readonly loop: Runner
  /** Absent: everything can be done. @throws ServingError `invalid_parameters` naming what cannot be */
  readonly refuse?: ((request: RunRequest) => void) | undefined
  readonly cache: Pick<AdapterCache, 'resolve' | 'lease' | 'residency'>
  readonly clock: Clock
  readonly timers: Timers
  /** Compiles the grammar where it is not known yet. @throws ServingError `invalid_parameters` naming why it cannot be used */
  readonly openConstraint: (grammar: Grammar, signal: AbortSignal) => Promise<Constraint>
  /** Renders a conversation with an adapter's own template. @throws ServingError `template_error`, `overloaded` */
  readonly renderTemplate: (conversation: RenderedConversation, signal: AbortSignal) => Promise<string>
  /** Absent: every prompt is computed whole. */
  readonly prefix?: Pick<PrefixCache, 'keys'> | undefined
  /** Work space of constrained samplers, [vocab]. */
  readonly scores: Float32Array
  /** How long a request waits for its adapter, in milliseconds. */
  readonly arrivalMs: number
  /** Requests held beyond the running ones. */
  readonly waitingLimit: number
  /** Of one tenant. */
  readonly tenantLimits: TenantLimits
}

/** Whether a request would be served now, and if not why. */
export type ServiceHealth =
  /** `degraded`: adapters that no tier has cannot be loaded now, and why. */
  | { readonly status: 'serving'; readonly degraded?: string }
  /** `leaving`: who has not heard of it yet is still served. */
  | { readonly status: 'starting' | 'leaving' | 'draining' | 'stalled' | 'overloaded' | 'failed'; readonly reason: string }

/**
 * Turns run requests into sequences: tokenise, cut, check lengths, find the adapter and take a lease on it (its loads begin
 * here, on arrival, not on admission), then queue. Whatever goes wrong on the way is the run's one `error` event.
 */
export class RunService {
  readonly #deps: RunServiceDeps
  /** Runs whose conversation is being rendered or whose adapter is being looked up; they count as waiting. */
  #resolving = 0
  #nextId = 1
  /** `leaving`: nobody should send more, but what comes all the same is served. */
  #phase: 'open' | 'leaving' | 'draining' = 'open'
  #whenResolved: (() => void)[] = []
  readonly #queues: TenantQueues
  readonly #leases: AdapterLeases

  constructor(deps: RunServiceDeps) {
    this.#deps = deps
    this.#queues = new TenantQueues(deps.tenantLimits, (tenant) => ({ ...deps.loop.busyness(), ...deps.loop.sharing(tenant) }))
    this.#leases = new AdapterLeases({ ...deps, loadsAtOnce: limits.tenantLoads })
  }

  health(): ServiceHealth {
    const { loop, waitingLimit } = this.#deps
    if (!loop.isOpen) return { status: 'failed', reason: 'the worker is stopping' }
    if (this.#phase === 'draining') return { status: 'draining', reason: 'the worker is draining and takes no new requests' }
    if (loop.stepAgeMs > limits.stepAgeMs) {
      return { status: 'stalled', reason: `the step in progress has taken ${Math.round(loop.stepAgeMs)} ms` }
    }
    if (this.#waiting() >= waitingLimit) {
      return { status: 'overloaded', reason: `${waitingLimit} requests are waiting already; try again later` }
    }
    if (this.#phase === 'leaving') return { status: 'leaving', reason: 'the worker is about to stop: send requests elsewhere' }
    return { status: 'serving' }
  }

  state(): BatchState {
    const state = this.#deps.loop.state()
    return { ...state, waiting: state.waiting + this.#resolving }
  }

  /** Starts a run. `signal` is the client's leaving. All that comes of it goes to the sink and ends in exactly one terminal event. */
  start(request: RunRequest, client: EventSink, signal: AbortSignal): void {
    let sink = client
    try {
      this.#refuseIfUnable()
      this.#deps.refuse?.(request)
      const arrivedAtMs = this.#deps.clock.nowMs()
      const ticket = this.#queues.enter(request.tenant)
      sink = leavingSink(client, ticket)
      const arrived = { request, sink, signal, arrivedAtMs, ticket }
      const { prompt } = request
      if (prompt.kind === 'chat' && prompt.template !== undefined) {
        const { template, messages, tools, toolPrompt, addGenerationPrompt } = prompt
        const conversation = { template, messages, tools, toolPrompt, addGenerationPrompt }
        void this.#beginWhenRendered(conversation, arrived)
      } else this.#begin(arrived)
    } catch (thrown) {
      sink.send(errorEvent(toServingError(thrown)))
    }
  }

  async #beginWhenRendered(conversation: RenderedConversation, arrived: Arrived): Promise<void> {
    const { request, signal, arrivedAtMs } = arrived
    this.#resolving += 1
    try {
      const rendering = this.#deps.renderTemplate(conversation, signal)
      const text = await inTime(rendering, signal, deadlineOf(request, arrivedAtMs, 'its conversation was rendered'), this.#deps)
      this.#begin({ ...arrived, request: { ...request, prompt: { kind: 'text', text, addSpecial: false } } })
    } catch (thrown) {
      arrived.sink.send(errorEvent(toServingError(thrown)))
    } finally {
      this.#resolved()
    }
  }

  #begin(arrived: Arrived): void {
    const { request, sink } = arrived
    try {
      const work = workOf(request, this.#deps)
      // A prompt of the usual length is one slice, and queued in the order in which it came.
      const first = work.next()
      if (first.done === true) this.#enqueue(arrived, first.value)
      else void this.#beginInTurns(arrived, work)
    } catch (thrown) {
      sink.send(errorEvent(toServingError(thrown)))
    }
  }

  async #beginInTurns(arrived: Arrived, work: Slices<Work>): Promise<void> {
    this.#resolving += 1
    try {
      const { request, signal, arrivedAtMs } = arrived
      const limit = deadlineOf(request, arrivedAtMs, 'its prompt was made into tokens')
      this.#enqueue(arrived, await inTime(inTurns(work, signal), signal, limit, this.#deps))
    } catch (thrown) {
      arrived.sink.send(errorEvent(toServingError(thrown)))
    } finally {
      this.#resolved()
    }
  }

  #enqueue(arrived: Arrived, work: Work): void {
    const { request, sink, arrivedAtMs, ticket } = arrived
    try {
      ticket.addTokens(work.promptIds.length)
      const run: Run = { ...arrived, ...work, ...this.#ends(request, arrivedAtMs) }
      if (request.adapter.kind === 'base' && grammarOf(run) === undefined) this.#queue(run, { kind: 'base' })
      else void this.#queueWhenReady(run)
    } catch (thrown) {
      sink.send(errorEvent(toServingError(thrown)))
    }
  }

  #ends({ deadlineMs }: RunRequest, arrivedAtMs: number): Pick<Run, 'deadlineAtMs' | 'arrivesByMs'> {
    const deadlineAtMs = arrivedAtMs + deadlineMs
    return { deadlineAtMs, arrivesByMs: Math.min(deadlineAtMs, arrivedAtMs + this.#deps.arrivalMs) }
  }

  /** @throws ServingError `invalid_parameters` for a text that is too long */
  tokenize(request: TokenizeRequest): Promise<TextToken[]> {
    return tokensOf(request, this.#deps.tokenizer)
  }

  /** Whether nobody should send more. */
  get isLeaving(): boolean {
    return this.#phase !== 'open'
  }

  /** Requests that are not in the batch yet. */
  get resolving(): number {
    return this.#resolving
  }

  /** Says that it is about to stop, and serves those who come all the same because they have not heard it. */
  leave(): void {
    if (this.#phase === 'open') this.#phase = 'leaving'
  }

  /** Takes no new runs; resolves when those it has are over. */
  async drain(): Promise<void> {
    this.#phase = 'draining'
    if (this.#resolving > 0) await new Promise<void>((resolve) => this.#whenResolved.push(resolve))
    await this.#deps.loop.whenEmpty()
  }

  #waiting(): number {
    return this.#deps.loop.waitingCount + this.#resolving
  }

  #refuseIfUnable(): void {
    const health = this.health()
    switch (health.status) {
      case 'draining':
      case 'failed':
        throw new ServingError('draining', health.reason)
      case 'overloaded':
        throw new ServingError('overloaded', health.reason, { retryAfterS: this.#retryAfter() })
      default:
    }
  }

  #retryAfter(): number {
    const { waiting, queuedTokens, ...speed } = this.#deps.loop.busyness()
    return retryAfter({ requests: waiting, tokens: queuedTokens }, { ...speed, share: 1 })
  }

  async #queueWhenReady(run: Run): Promise<void> {
    this.#resolving += 1
    let constraint: Constraint | undefined
    try {
      constraint = await this.#constraintOf(run)
      const ready = constraint === undefined ? run : this.#constrained(run, constraint)
      const { adapter } = run.request
      const identity =
        adapter.kind === 'base'
          ? undefined
          : await inTime(this.#deps.cache.resolve(adapter), run.signal, arrivalEnd(run), this.#deps)
      const wanting = { tenant: run.request.tenant, signal: run.signal, limit: arrivalEnd(run) }
      // From here to the queue nothing is awaited: the lease has an owner before anything else can happen.
      const lease = identity === undefined ? undefined : await this.#leases.take(identity, wanting)
      this.#queue(ready, lease === undefined ? { kind: 'base' } : { kind: 'adapter', lease })
    } catch (thrown) {
      constraint?.close()
      run.sink.send(errorEvent(toServingError(thrown)))
    } finally {
      this.#resolved()
    }
  }

  #resolved(): void {
    this.#resolving -= 1
    if (this.#resolving === 0) for (const resolve of this.#whenResolved.splice(0)) resolve()
  }

  async #constraintOf(run: Run): Promise<Constraint | undefined> {
    const grammar = grammarOf(run)
    if (grammar === undefined) return undefined
    const opening = this.#deps.openConstraint(grammar, run.signal)
    try {
      return await inTime(opening, run.signal, deadlineOf(run.request, run.arrivedAtMs, 'its grammar was compiled'), this.#deps)
    } catch (thrown) {
      // Nobody takes over what comes too late.
      opening.then(
        (late) => late.close(),
        () => {},
      )
      throw thrown
    }
  }

  #constrained(run: Run, constraint: Constraint): Run {
    const { task } = run
    if (task.kind === 'embed') return run
    const sampler = constrainedSampler(task.sampler, constraint, this.#deps.scores)
    return { ...run, task: { ...task, constraint, sampler } satisfies Generation }
  }

  #queue(run: Run, adapter: SequenceAdapter): void {
    const { request, signal, sink, promptIds } = run
    const id = this.#nextId as SequenceId
    this.#nextId += 1
    const digest = adapter.kind === 'adapter' ? { adapterDigest: adapter.lease.digest } : {}
    sink.send({ type: 'accepted', promptTokens: promptIds.length, queuePosition: this.#deps.loop.waitingCount, ...digest })
    this.#deps.loop.submit({
      id,
      requestId: request.requestId,
      client: clientOf(request),
      promptIds,
      adapter,
      arrivedAtMs: run.arrivedAtMs,
      deadlineAtMs: run.deadlineAtMs,
      arrivesByMs: run.arrivesByMs,
      sink,
      prefixKeys: this.#deps.prefix && promptKeys(this.#deps.prefix, run, adapter),
      ...run.task,
    })
    if (signal.aborted) this.#deps.loop.cancel(id)
    else signal.addEventListener('abort', () => this.#deps.loop.cancel(id), { once: true })
  }
}
