/** Workers and a gateway in one simulated world, driven by a workload. */
import type { AdapterDigest } from '@quiver/protocol'
import { drawBelow, type Random, seededRandom } from '../shared/random.ts'
import { type Content, Contents } from './contents.ts'
import { capacityPerSecond, type DeviceModel } from './device-model.ts'
import type { Answer } from './placed-request.ts'
import { type PolicyName, policies } from './policies.ts'
import { SimulatedGateway } from './simulated-gateway.ts'
import type { SimulatedRequest } from './simulated-run.ts'
import { SimulatedWorker } from './simulated-worker.ts'
import { Simulation } from './simulation.ts'
import type { WorkerCapacity } from './worker-capacity.ts'
import { nextArrivalMs, type Workload, zipfSampler } from './workload.ts'

export interface ClusterPlan {
  readonly seed: number
  readonly policy: PolicyName
  readonly workload: Workload
  readonly workers: number
  readonly capacity: (index: number) => WorkerCapacity
  readonly model: DeviceModel
  readonly requests: number
  /** Of what the workers could end at full batches. */
  readonly load: number
  /** Means; lengths are drawn between half of it and one and a half. */
  readonly promptTokens: number
  readonly newTokens: number
  readonly adapterBytes: number
  readonly deadlineMs: number
  /** Between a gateway and a worker, one way. */
  readonly networkMs: number
  /** What a load from the origin brings; undefined: it fails. Absent: what the origin has. */
  readonly fetched?: (content: Content, contents: Contents) => Content | undefined
}

/** What watches a cluster, or disturbs it. */
export interface ClusterHooks {
  /** Before the request is sent. `share` is how much of the run is over, 0 … 1. */
  onArrival?(index: number, share: number): void
  /** What the client of a request is told; and how it can leave. */
  answerFor(index: number, request: SimulatedRequest): { readonly answer: Answer; readonly onSent?: (leave: () => void) => void }
}

export class Cluster {
  readonly simulation = new Simulation()
  readonly gateway: SimulatedGateway
  readonly workers: readonly SimulatedWorker[]
  readonly #plan: ClusterPlan
  readonly #random: Random
  readonly #drawRank: () => number
  readonly #contents = new Contents()
  readonly #digests: readonly AdapterDigest[]
  #scanned = 0

  constructor(plan: ClusterPlan) {
    const { seed, policy, workload } = plan
    this.#plan = plan
    this.#random = seededRandom(seed)
    this.#drawRank = zipfSampler(workload.adapters, workload.exponent, this.#random)
    this.#digests = Array.from({ length: workload.adapters + 1 }, (_, index) => this.#contents.add(index))
    this.gateway = new SimulatedGateway(this.simulation, {
      networkMs: plan.networkMs,
      choose: policies(seededRandom(seed + 1))[policy](),
    })
    this.workers = Array.from({ length: plan.workers }, (_, index) => this.#makeWorker(index))
    for (const worker of this.workers) this.gateway.add(worker)
  }

  /** Sends every request and waits until the world is at rest. */
  async run(hooks: ClusterHooks): Promise<void> {
    const { requests, workers, capacity, model, load, promptTokens, newTokens } = this.#plan
    const capacities = Array.from({ length: workers }, (_, index) =>
      capacityPerSecond(model, capacity(index).sequences, promptTokens, newTokens),
    )
    const perSecond = load * capacities.reduce((sum, one) => sum + one, 0)
    let sent = 0
    const arrive = () => {
      hooks.onArrival?.(sent, sent / requests)
      this.#send(sent, hooks)
      sent += 1
      if (sent < requests) this.simulation.after(nextArrivalMs(perSecond, this.#random), arrive)
    }
    this.simulation.after(0, arrive)
    await this.simulation.run()
  }

  #send(index: number, hooks: ClusterHooks): void {
    const { requests, adapterBytes, newTokens, promptTokens, deadlineMs } = this.#plan
    const adapter = this.#drawAdapter(index / requests)
    const tenant = this.#tenantOf(index)
    const request = {
      ...(tenant === undefined ? {} : { tenant }),
      ...(adapter === undefined ? {} : { adapter }),
      bytes: adapterBytes,
      promptTokens: this.#drawLength(promptTokens),
      newTokens: this.#drawLength(newTokens),
      deadlineMs,
    }
    const { answer, onSent } = hooks.answerFor(index, request)
    const leave = this.gateway.send(request, answer)
    onSent?.(leave)
  }

  #drawAdapter(share: number): AdapterDigest | undefined {
    const { adapters, base, rankShift, crowd, scan } = this.#plan.workload
    if (base !== undefined && this.#random() < base) return undefined
    let index = (this.#drawRank() + Math.floor(rankShift?.(share) ?? 0)) % adapters
    if (scan !== undefined && this.#random() < scan) {
      index = this.#scanned % adapters
      this.#scanned += 1
    }
    if (crowd !== undefined && this.#random() < crowd(share)) index = adapters
    const digest = this.#digests[index]
    if (digest === undefined) throw new Error(`there is no adapter ${index}`)
    return digest
  }

  #tenantOf(index: number): string | undefined {
    const { tenants, flood } = this.#plan.workload
    if (flood !== undefined && this.#random() < flood) return 'flood'
    return tenants === undefined ? undefined : `tenant-${index % tenants}`
  }

  #drawLength(mean: number): number {
    return Math.max(1, Math.floor(mean / 2) + drawBelow(this.#random, mean + 1))
  }

  #makeWorker(index: number): SimulatedWorker {
    const { fetched } = this.#plan
    const worker: SimulatedWorker = new SimulatedWorker(
      `worker-${index}`,
      this.simulation,
      this.#plan.model,
      this.#plan.capacity(index),
      {
        send: (event) => this.gateway.hear(worker, event),
        contents: this.#contents,
        fetched: (content) => (fetched === undefined ? content : fetched(content, this.#contents)),
      },
    )
    return worker
  }
}
