/** Workers and a gateway in one simulated world, driven by a workload. */
import type { AdapterDigest, HeldPresence, WorkerEvent } from '@quiver/protocol'
import { TrackedWorker } from '../../packages/gateway/src/placement/tracked-worker.ts'
import { drawBelow, seededRandom } from '../shared/random.ts'
import { capacityPerSecond, type DeviceModel } from './device-model.ts'
import { type ChoiceView, type Choose, type PolicyName, policies } from './policies.ts'
import { SimulatedWorker, type WorkerCapacity } from './simulated-worker.ts'
import { Simulation } from './simulation.ts'
import { adapterDigest, nextArrivalMs, type Workload, zipfSampler } from './workload.ts'

export interface ClusterPlan {
  readonly seed: number
  readonly policy: PolicyName
  readonly workload: Workload
  readonly workers: number
  readonly capacity: (index: number) => WorkerCapacity
  readonly model: DeviceModel
  readonly requests: number
  /** Share of the requests that warm up and are not measured. */
  readonly warmup: number
  /** Of what the workers could end at full batches. */
  readonly load: number
  readonly promptTokens: number
  readonly newTokens: number
  readonly adapterBytes: number
  /** Between a gateway and a worker, one way. */
  readonly networkMs: number
}

export interface ClusterResult {
  readonly requests: number
  /** Requests whose adapter was in a slot of their worker when they came. */
  readonly deviceHitRate: number
  readonly loads: { readonly device: number; readonly disk: number; readonly origin: number }
  readonly firstTokenMs: readonly number[]
  /** Requests that each worker ended. */
  readonly perWorker: readonly number[]
  readonly endedAtMs: number
}

export async function runCluster(plan: ClusterPlan): Promise<ClusterResult> {
  const cluster = new Cluster(plan)
  return await cluster.run()
}

interface Member {
  readonly worker: SimulatedWorker
  readonly tracked: TrackedWorker
  readonly view: ChoiceView
  ended: number
}

class Cluster {
  readonly #plan: ClusterPlan
  readonly #simulation = new Simulation()
  readonly #members: readonly Member[]
  readonly #choose: Choose
  readonly #random: () => number
  readonly #drawRank: () => number
  readonly #digests: readonly AdapterDigest[]
  readonly #firstTokenMs: number[] = []
  #ended = 0
  #scanned = 0
  #before: ReturnType<Cluster['totals']> | undefined

  constructor(plan: ClusterPlan) {
    this.#plan = plan
    this.#random = seededRandom(plan.seed)
    this.#choose = policies(seededRandom(plan.seed + 1))[plan.policy]()
    this.#drawRank = zipfSampler(plan.workload.adapters, plan.workload.exponent, this.#random)
    this.#digests = Array.from({ length: plan.workload.adapters + 1 }, (_, index) => adapterDigest(index))
    this.#members = Array.from({ length: plan.workers }, (_, index) => this.#makeMember(index))
  }

  async run(): Promise<ClusterResult> {
    const { requests, workers, capacity, model, load, promptTokens, newTokens } = this.#plan
    const perSecond = Array.from({ length: workers }, (_, index) =>
      capacityPerSecond(model, capacity(index).sequences, promptTokens, newTokens),
    ).reduce((sum, one) => sum + one * load, 0)
    let sent = 0
    const arrive = () => {
      this.#send(sent)
      sent += 1
      if (sent < requests) this.#simulation.after(nextArrivalMs(perSecond, this.#random), arrive)
    }
    this.#simulation.after(0, arrive)
    await this.#simulation.run(() => this.#ended === requests)
    const [before, after] = [this.#before ?? this.totals(), this.totals()]
    const measured = after.requests - before.requests
    return {
      requests: measured,
      deviceHitRate: (after.hits - before.hits) / measured,
      loads: {
        device: after.device - before.device,
        disk: after.disk - before.disk,
        origin: after.origin - before.origin,
      },
      firstTokenMs: this.#firstTokenMs,
      perWorker: this.#members.map(({ ended }) => ended),
      endedAtMs: this.#simulation.nowMs(),
    }
  }

  totals() {
    const sum = (of: (worker: SimulatedWorker) => number) => this.#members.reduce((total, { worker }) => total + of(worker), 0)
    return {
      requests: sum(({ submitted }) => submitted),
      hits: sum(({ hits }) => hits),
      device: sum(({ loads }) => loads.device),
      disk: sum(({ loads }) => loads.disk),
      origin: sum(({ loads }) => loads.origin),
    }
  }

  #send(index: number): void {
    const { requests, warmup, adapterBytes, newTokens, networkMs } = this.#plan
    const isMeasured = index >= requests * warmup
    if (isMeasured && this.#before === undefined) this.#before = this.totals()
    const adapter = this.#drawAdapter(index / requests)
    const promptTokens = this.#drawLength(this.#plan.promptTokens)
    const request = { adapter, bytes: adapterBytes, promptTokens }
    const chosen = this.#choose(
      request,
      this.#members.map(({ view }) => view),
    )
    const member = this.#members.find(({ view }) => view === chosen)
    if (member === undefined) throw new Error('no worker accepts a request')
    const dispatch = member.tracked.dispatch(request)
    const sentAtMs = this.#simulation.nowMs()
    const back = (action: () => void) => this.#simulation.after(networkMs, action)
    this.#simulation.after(networkMs, () =>
      member.worker.submit(
        { id: index, ...request, newTokens: this.#drawLength(newTokens) },
        {
          accepted: () => back(() => dispatch.accepted()),
          firstToken: () =>
            back(() => {
              if (isMeasured) this.#firstTokenMs.push(this.#simulation.nowMs() - sentAtMs)
            }),
          done: () =>
            back(() => {
              dispatch.ended()
              this.#ended += 1
              member.ended += 1
            }),
        },
      ),
    )
  }

  #drawAdapter(share: number): AdapterDigest {
    const { adapters, rankShift, crowd, scan } = this.#plan.workload
    const rank = this.#drawRank()
    let index = (rank + Math.floor(rankShift?.(share) ?? 0)) % adapters
    if (scan !== undefined && this.#random() < scan) {
      index = this.#scanned % adapters
      this.#scanned += 1
    }
    if (crowd !== undefined && this.#random() < crowd(share)) index = adapters
    const digest = this.#digests[index]
    if (digest === undefined) throw new Error(`there is no adapter ${index}`)
    return digest
  }

  /** Between half of the mean and one and a half. */
  #drawLength(mean: number): number {
    return Math.max(1, Math.floor(mean / 2) + drawBelow(this.#random, mean + 1))
  }

  #makeMember(index: number): Member {
    const { model, networkMs } = this.#plan
    const capacity = this.#plan.capacity(index)
    const id = `worker-${index}`
    let sequence = 0
    const tell = (event: (stamp: { epoch: string; sequence: number }) => WorkerEvent) => {
      sequence += 1
      const told = event({ epoch: id, sequence })
      this.#simulation.after(networkMs, () => {
        if (!tracked.apply(told)) throw new Error('a report was lost')
      })
    }
    const worker = new SimulatedWorker(id, this.#simulation, model, capacity, {
      load: (load) => tell((stamp) => ({ type: 'delta', ...stamp, load })),
      adapter: (digest, presence: HeldPresence) =>
        tell((stamp) => ({ type: 'delta', ...stamp, adapters: [{ digest, presence }] })),
    })
    const tracked = new TrackedWorker(id, capacity.sequences, {
      type: 'snapshot',
      epoch: id,
      sequence,
      load: worker.load(),
      adapters: [],
    })
    return { worker, tracked, view: choiceView(tracked, worker, capacity), ended: 0 }
  }
}

/** What ours sees, and what others look at besides. Theirs is not delayed: they are compared at their best. */
function choiceView(tracked: TrackedWorker, worker: SimulatedWorker, capacity: WorkerCapacity): ChoiceView {
  return Object.defineProperties(tracked, {
    running: { get: () => tracked.load.running },
    waiting: { get: () => tracked.load.waiting },
    slots: { value: capacity.slots },
    runningAdapters: { get: () => worker.adaptersOf('running') },
    waitingAdapters: { get: () => worker.adaptersOf('waiting') },
  }) as TrackedWorker & ChoiceView
}
