/**
 * The workers that this gateway knows, and which of them gets a request. Each gateway has its own pool and talks to no other: what
 * they agree on follows from what the workers tell all of them alike.
 */
import { type AdapterOrderKind, type RunRequest, ServingError, type WorkerInfo, type WorkerState } from '@quiver/protocol'
import { type Placement, place } from '../placement/place.ts'
import { placementRules } from '../placement/placement-rules.ts'
import type { PlacementRequest } from '../placement/worker-view.ts'
import { type EjectionRules, Ejections } from './ejections.ts'
import { mergedState } from './merged-state.ts'
import { placedRun } from './placed-run.ts'
import { type PoolDeps, PoolMembers } from './pool-members.ts'
import { RetryBudget } from './retry-budget.ts'
import { RunTargets, usualTarget } from './run-target.ts'
import type { WorkerClient, WorkerEndpoint } from './worker-client.ts'
import { reportWorker, type WorkerReport } from './worker-report.ts'
import type { OrderForBase, PlacedRun, WorkerAdapters, WorkerSource } from './worker-source.ts'

export interface PoolOptions {
  /** How long a request waits for a worker while there is none, and one has been there before. */
  readonly patienceMs: number
  /** The base model of requests that name none; absent: the one that was there first. */
  readonly usualBase?: string
  readonly ejections?: EjectionRules
}

/** Nobody who waits without a bound waits for one change alone. */
const LOOK_AGAIN_MS = 60_000
const NONE: ReadonlySet<string> = new Set()

export class WorkerPool implements WorkerSource {
  readonly #deps: PoolDeps
  readonly #options: PoolOptions
  readonly #members: PoolMembers
  readonly #ejections: Ejections
  readonly #budget = new RetryBudget()
  readonly #targets = new RunTargets()

  constructor(deps: PoolDeps, options: PoolOptions) {
    this.#deps = deps
    this.#options = options
    const ejections = new Ejections(deps.clock, options.ejections)
    this.#ejections = ejections
    this.#members = new PoolMembers(deps, options.usualBase, {
      joined: (address) => ejections.add(address),
      parted: (address) => ejections.remove(address),
    })
  }

  /**
   * A worker that stays a member until it is removed. Resolves when it is connected.
   * @throws ServingError `worker_lost` when that takes longer than `patienceMs`
   */
  async add(endpoint: WorkerEndpoint, patienceMs: number): Promise<WorkerClient> {
    return await this.#members.add(endpoint, patienceMs)
  }

  remove(address: string): void {
    this.#members.remove(address)
  }

  /** What one kind of discovery lists now. A worker that is not listed any more stays for as long as it is connected. */
  list(source: string, addresses: readonly string[], token: string): void {
    this.#members.list(source, addresses, token)
  }

  /** Resolves when the first worker has said what it is. */
  async whenKnown(): Promise<void> {
    const { waiters } = this.#members
    while (this.info === undefined) await waiters.since(waiters.changes, LOOK_AGAIN_MS)
  }

  close(): void {
    this.#members.close()
  }

  get info(): WorkerInfo | undefined {
    return this.#members.models.usual
  }

  infoOf(base: string): WorkerInfo | undefined {
    return this.#members.models.of(base)
  }

  get bases(): readonly string[] {
    return this.#members.models.names
  }

  get arrivals(): number {
    return this.#members.arrivals
  }

  get places(): number {
    const infos = this.#members.clients().map(({ info }) => info)
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
    const base = this.info?.model.id
    return await this.#untilFound(signal, base, async () => {
      const placement = this.#choose(usualTarget, base, NONE)
      return placement && this.#members.get(placement.worker.id)?.client
    })
  }

  explain(adapter: string | undefined, base: string | undefined): Placement | undefined {
    return this.#choose(adapter === undefined ? usualTarget : { ...usualTarget, adapter }, base ?? this.info?.model.id, NONE)
  }

  async workers(signal: AbortSignal): Promise<readonly WorkerReport[]> {
    return await Promise.all(
      this.#members.all().map((member) => reportWorker(member, this.#ejections.isOut(member.address), signal)),
    )
  }

  async drain(id: string, signal: AbortSignal): Promise<void> {
    const client = this.#members.clients().find(({ info }) => info.workerId === id)
    if (client === undefined) throw new ServingError('not_found', `no worker ${JSON.stringify(id.slice(0, 80))} is there now`)
    await client.drain(signal)
  }

  async state(signal: AbortSignal): Promise<WorkerState | undefined> {
    return mergedState(await this.#ask((worker) => worker.state(signal)))
  }

  async adapters(signal: AbortSignal, digest?: string): Promise<readonly WorkerAdapters[]> {
    return await this.#ask(async (worker) => ({ ...originOf(worker), ...(await worker.adapters(signal, digest)) }))
  }

  async order(kind: AdapterOrderKind, { adapter, base }: OrderForBase, signal: AbortSignal): Promise<readonly WorkerAdapters[]> {
    const meant = this.#members.clients().filter((worker) => base === undefined || originOf(worker).base === base)
    return await Promise.all(
      meant.map(async (worker) => ({ ...originOf(worker), ...(await worker.order(kind, { adapter }, signal)) })),
    )
  }

  async isHealthy(signal: AbortSignal): Promise<boolean> {
    const ready = this.#members.ready(undefined).flatMap(({ client }) => client ?? [])
    // One that is well is enough; the first to say so decides.
    const answers = ready.map(async (worker) => {
      if (!(await worker.isHealthy(signal))) throw new ServingError('worker_lost', 'not this one')
    })
    return await Promise.any(answers).then(
      () => true,
      () => false,
    )
  }

  #choose(target: PlacementRequest, base: string | undefined, tried: ReadonlySet<string>): Placement | undefined {
    const seen = new Set<string>()
    const views = this.#members.ready(base).flatMap(({ address, view, client }) => {
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
    target: PlacementRequest,
    base: string | undefined,
    tried: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<Placement | undefined> {
    for (const { address, client } of this.#members.ready(base)) {
      if (!tried.has(address) || !(await client?.isHealthy(signal))) continue
      const placement = this.#choose(target, base, new Set([...tried].filter((other) => other !== address)))
      if (placement !== undefined) return placement
    }
    return undefined
  }

  /** @throws ServingError `not_ready` when nothing is found in time, or the signal's reason */
  async #untilFound<T>(signal: AbortSignal, base: string | undefined, find: () => Promise<T | undefined>): Promise<T> {
    const { clock } = this.#deps
    const { waiters } = this.#members
    const untilMs = clock.nowMs() + this.#options.patienceMs
    for (;;) {
      signal.throwIfAborted()
      const { changes } = waiters
      const found = await find()
      if (found !== undefined) return found
      const leftMs = untilMs - clock.nowMs()
      if (this.info === undefined || leftMs <= 0) throw notReady(base, this.info)
      await waiters.since(changes, leftMs, signal)
    }
  }

  async #ask<T>(question: (worker: WorkerClient) => Promise<T>): Promise<readonly T[]> {
    const answers = await Promise.allSettled(this.#members.clients().map(question))
    const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
    const failed = answers.find((answer) => answer.status === 'rejected')
    if (found.length === 0 && failed !== undefined) throw failed.reason
    return found
  }
}

/** Adapters are published for the base model of a layout. */
function originOf({ info }: WorkerClient): { readonly workerId: string; readonly base: string } {
  return { workerId: info.workerId, base: info.layout.baseModel }
}

function notReady(base: string | undefined, usual: WorkerInfo | undefined): ServingError {
  if (usual === undefined) return new ServingError('not_ready', 'The model is still being loaded: try again in a moment')
  return new ServingError('not_ready', `No worker for ${base ?? usual.model.id} can take requests now: try again in a moment`)
}
