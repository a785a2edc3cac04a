/**
 * The workers that this gateway knows, and which of them gets a request. Each gateway has its own pool and talks to no other: what
 * they agree on follows from what the workers tell all of them alike.
 */
import {
  type AdapterOrder,
  type AdapterOrderKind,
  type RunRequest,
  ServingError,
  type WorkerInfo,
  type WorkerState,
} from '@quiver/protocol'
import { type Placement, place } from '../placement/place.ts'
import { placementRules } from '../placement/placement-rules.ts'
import { BaseModels } from './base-models.ts'
import { type EjectionRules, Ejections } from './ejections.ts'
import { mergedState } from './merged-state.ts'
import { placedRun } from './placed-run.ts'
import { type MemberDeps, PoolMember } from './pool-member.ts'
import { RetryBudget } from './retry-budget.ts'
import { RunTargets } from './run-target.ts'
import { Waiters } from './waiters.ts'
import type { WorkerClient, WorkerEndpoint } from './worker-client.ts'
import type { PlacedRun, WorkerAdapters, WorkerSource } from './worker-source.ts'

export interface PoolDeps extends Omit<MemberDeps, 'fits' | 'changed'> {}

export interface PoolOptions {
  /** How long a request waits for a worker while there is none, and one has been there before. */
  readonly patienceMs: number
  /** The base model of requests that name none; absent: the one that was there first. */
  readonly usualBase?: string
  readonly ejections?: EjectionRules
}

/** A worker as an operator sees it. */
export interface MemberReport {
  readonly member: PoolMember
  /** Gets no requests for a while because of how it answered. */
  readonly isEjected: boolean
}

export class WorkerPool implements WorkerSource {
  readonly #deps: PoolDeps
  readonly #options: PoolOptions
  readonly #members = new Map<string, PoolMember>()
  /** Addresses that each kind of discovery lists now; `own` are those that were added by hand. */
  readonly #listed = new Map<string, ReadonlySet<string>>()
  readonly #ejections: Ejections
  readonly #budget = new RetryBudget()
  readonly #targets = new RunTargets()
  readonly #models: BaseModels
  readonly #waiters: Waiters
  #arrivals = 0

  constructor(deps: PoolDeps, options: PoolOptions) {
    this.#deps = deps
    this.#options = options
    this.#ejections = new Ejections(deps.clock, options.ejections)
    this.#models = new BaseModels(options.usualBase)
    this.#waiters = new Waiters(deps.clock)
  }

  /**
   * A worker that stays a member until it is removed. Resolves when it is connected.
   * @throws ServingError `worker_lost` when that takes longer than `patienceMs`
   */
  async add(endpoint: WorkerEndpoint, patienceMs: number): Promise<WorkerClient> {
    const { clock } = this.#deps
    const member = this.#join(endpoint)
    this.#listed.set('own', new Set([...(this.#listed.get('own') ?? []), endpoint.url]))
    for (const untilMs = clock.nowMs() + patienceMs; ; ) {
      if (member.client !== undefined) return member.client
      const leftMs = untilMs - clock.nowMs()
      if (leftMs <= 0) throw new ServingError('worker_lost', 'the worker cannot be listened to', { worker: endpoint.url })
      await this.#waiters.since(this.#waiters.changes, leftMs)
    }
  }

  remove(address: string): void {
    this.#listed.set('own', new Set([...(this.#listed.get('own') ?? [])].filter((other) => other !== address)))
    this.#part(address)
  }

  /**
   * What one kind of discovery lists now. A worker that is not listed any more stays for as long as it is connected: who listens to it
   * knows better than a list whether it is there.
   */
  list(source: string, addresses: readonly string[], token: string): void {
    this.#listed.set(source, new Set(addresses))
    for (const url of addresses) this.#join({ url, token })
    this.#dropUnlisted()
  }

  close(): void {
    for (const address of [...this.#members.keys()]) this.#part(address)
  }

  members(): readonly MemberReport[] {
    return Array.from(this.#members.values(), (member) => ({ member, isEjected: this.#ejections.isEjected(member.address) }))
  }

  get info(): WorkerInfo | undefined {
    return this.#models.usual
  }

  infoOf(base: string): WorkerInfo | undefined {
    return this.#models.of(base)
  }

  get bases(): readonly string[] {
    return this.#models.names
  }

  get arrivals(): number {
    return this.#arrivals
  }

  get places(): number {
    const infos = this.#clients().map(({ info }) => info)
    // While one restarts, requests wait for it as for one that is there.
    const counted = infos.length > 0 || this.info === undefined ? infos : [this.info]
    return counted.reduce((sum, { limits }) => sum + limits.sequences + limits.waiting, 0)
  }

  noteRequest(): void {
    this.#budget.deposit()
  }

  mayRetry(): boolean {
    return this.#budget.take()
  }

  /** What would be chosen now for an adapter, by the name that requests are placed by, and why. */
  explain(adapter: string | undefined, base: string | undefined): Placement | undefined {
    const size = this.#targets.of({ adapter: { kind: 'base' }, prompt: { kind: 'text', text: ' ' } })
    return this.#choose(adapter === undefined ? size : { ...size, adapter }, base, new Set())
  }

  async place(request: RunRequest, signal: AbortSignal, tried: ReadonlySet<string>): Promise<PlacedRun> {
    const base = request.base ?? this.info?.model.id
    return await this.#untilFound(signal, base, async () => {
      const target = this.#targets.of(request)
      const placement = this.#choose(target, base, tried) ?? (await this.#chooseAgain(target, base, tried, signal))
      const member = placement && this.#members.get(placement.worker.id)
      if (placement === undefined || member?.client === undefined || member.view === undefined) return undefined
      return placedRun(
        { member, client: member.client, view: member.view, target, kind: placement.kind },
        { clock: this.#deps.clock, ejections: this.#ejections, learn: (digest) => this.#targets.learn(request.adapter, digest) },
      )
    })
  }

  async acquire(signal: AbortSignal): Promise<WorkerClient> {
    return await this.#untilFound(signal, this.info?.model.id, async () => {
      const base = this.info?.model.id
      const placement = this.#choose(
        this.#targets.of({ adapter: { kind: 'base' }, prompt: { kind: 'text', text: ' ' } }),
        base,
        new Set(),
      )
      return placement && this.#members.get(placement.worker.id)?.client
    })
  }

  async state(signal: AbortSignal): Promise<WorkerState | undefined> {
    const states = await this.#ask((worker) => worker.state(signal))
    return mergedState(states)
  }

  async adapters(signal: AbortSignal, digest?: string): Promise<readonly WorkerAdapters[]> {
    return await this.#ask(async (worker) => ({ workerId: worker.info.workerId, ...(await worker.adapters(signal, digest)) }))
  }

  async order(kind: AdapterOrderKind, order: AdapterOrder, signal: AbortSignal): Promise<readonly WorkerAdapters[]> {
    return await Promise.all(
      this.#clients().map(async (worker) => ({
        workerId: worker.info.workerId,
        ...(await worker.order(kind, order, signal)),
      })),
    )
  }

  async isHealthy(signal: AbortSignal): Promise<boolean> {
    const ready = this.#ready(undefined).flatMap(({ client }) => client ?? [])
    if (ready.length === 0) return false
    // One that is well is enough; the first to say so decides.
    const answers = ready.map(async (worker) => {
      if (!(await worker.isHealthy(signal))) throw new Error('not this one')
    })
    return await Promise.any(answers).then(
      () => true,
      () => false,
    )
  }

  #join(endpoint: WorkerEndpoint): PoolMember {
    const known = this.#members.get(endpoint.url)
    if (known !== undefined) return known
    let wasConnected = false
    const member = new PoolMember(endpoint, {
      ...this.#deps,
      fits: (info) => this.#models.fits(info, this.#clients()),
      changed: () => {
        if (member.isConnected && !wasConnected && member.client !== undefined) {
          this.#arrivals += 1
          if (member.state !== 'mismatched') this.#models.note(member.client.info)
        }
        wasConnected = member.isConnected
        this.#waiters.wake()
        if (!member.isConnected) this.#dropUnlisted()
      },
    })
    this.#members.set(member.address, member)
    this.#ejections.add(member.address)
    member.start()
    return member
  }

  #part(address: string): void {
    this.#members.get(address)?.close()
    this.#members.delete(address)
    this.#ejections.remove(address)
    this.#waiters.wake()
  }

  #dropUnlisted(): void {
    const lists = [...this.#listed.values()]
    for (const [address, { isConnected }] of [...this.#members]) {
      if (!isConnected && !lists.some((list) => list.has(address))) this.#part(address)
    }
  }

  /** Those that serve this base model, any where none is named, and are neither lost nor on their way out. */
  #ready(base: string | undefined): readonly PoolMember[] {
    return [...this.#members.values()].filter(
      ({ state, client }) => state === 'ready' && (base === undefined || client?.info.model.id === base),
    )
  }

  /** Of every worker that answers. */
  #clients(): readonly WorkerClient[] {
    return [...this.#members.values()].flatMap(({ state, client }) =>
      client !== undefined && (state === 'ready' || state === 'draining') ? [client] : [],
    )
  }

  #choose(target: ReturnType<RunTargets['of']>, base: string | undefined, tried: ReadonlySet<string>): Placement | undefined {
    const seen = new Set<string>()
    const views = this.#ready(base).flatMap(({ address, view, client }) => {
      // Two addresses may lead to one worker, which counts once.
      if (view === undefined || client === undefined || seen.has(client.info.workerId)) return []
      seen.add(client.info.workerId)
      view.isHealthy = !tried.has(address) && !this.#ejections.isOut(address)
      return [view]
    })
    return place(target, views, placementRules)
  }

  /** Of those that have just failed, one that says it is well: a connection can break without its worker. */
  async #chooseAgain(
    target: ReturnType<RunTargets['of']>,
    base: string | undefined,
    tried: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<Placement | undefined> {
    for (const { address, client } of this.#ready(base)) {
      if (!tried.has(address) || !(await client?.isHealthy(signal))) continue
      const placement = this.#choose(target, base, new Set([...tried].filter((other) => other !== address)))
      if (placement !== undefined) return placement
    }
    return undefined
  }

  /** @throws ServingError `not_ready` when nothing is found in time, or the signal's reason */
  async #untilFound<T>(signal: AbortSignal, base: string | undefined, find: () => Promise<T | undefined>): Promise<T> {
    const { clock } = this.#deps
    const untilMs = clock.nowMs() + this.#options.patienceMs
    for (;;) {
      signal.throwIfAborted()
      const { changes } = this.#waiters
      const found = await find()
      if (found !== undefined) return found
      const leftMs = untilMs - clock.nowMs()
      if (this.info === undefined || leftMs <= 0) throw notReady(base, this.info)
      await this.#waiters.since(changes, leftMs, signal)
    }
  }

  async #ask<T>(question: (worker: WorkerClient) => Promise<T>): Promise<readonly T[]> {
    const answers = await Promise.allSettled(this.#clients().map(question))
    const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
    const failed = answers.find((answer) => answer.status === 'rejected')
    if (found.length === 0 && failed !== undefined) throw failed.reason
    return found
  }
}

function notReady(base: string | undefined, usual: WorkerInfo | undefined): ServingError {
  if (usual === undefined) return new ServingError('not_ready', 'The model is still being loaded: try again in a moment')
  return new ServingError('not_ready', `No worker for ${base ?? usual.model.id} can take requests now: try again in a moment`)
}
