/** Tenants that send to one simulated worker, each a fixed number of requests at once: the next one when one ends. */
import { drawBelow, seededRandom } from '../shared/random.ts'
import { type Content, Contents } from './contents.ts'
import type { DeviceModel } from './device-model.ts'
import { SimulatedWorker } from './simulated-worker.ts'
import { Simulation } from './simulation.ts'
import type { WorkerCapacity } from './worker-capacity.ts'

export interface ClosedTenant {
  readonly tenant: string
  readonly atOnce: number
  /** Between an answer and the next request. */
  readonly pauseMs?: number
  readonly promptTokens: number
  readonly newTokens: number
  /** Numbers of its adapters, gone through one after another; absent: the base model. */
  readonly adapters?: readonly number[]
  /** Every request is for another adapter that nobody has asked for before, from this number on. */
  readonly scansFrom?: number
}

export interface ClosedLoopPlan {
  readonly seed: number
  readonly model: DeviceModel
  readonly capacity: WorkerCapacity
  readonly tenants: readonly ClosedTenant[]
  readonly forMs: number
  /** Requests that began before are not measured. */
  readonly warmupMs: number
  readonly adapterBytes?: number
}

/** All ascending, in ms, of requests that were answered. */
export interface TenantTimes {
  readonly firstTokenMs: readonly number[]
  readonly wholeMs: readonly number[]
  readonly tokens: number
}

const DEADLINE_MS = 600_000

/** Lengths vary by a quarter either way, so that sequences do not march in step. */
export async function closedLoop(plan: ClosedLoopPlan): Promise<ReadonlyMap<string, TenantTimes>> {
  const { seed, model, capacity, tenants, forMs, warmupMs, adapterBytes = 5_000_000 } = plan
  const random = seededRandom(seed)
  const simulation = new Simulation()
  const contents = new Contents()
  const fetched = (content: Content) => content
  const worker = new SimulatedWorker('worker', simulation, model, capacity, { send: () => {}, contents, fetched })
  const about = (mean: number) => Math.max(1, Math.round(mean * 0.75) + drawBelow(random, Math.round(mean / 2) + 1))
  const times = new Map(
    tenants.map(({ tenant }) => [tenant, { firstTokenMs: [] as number[], wholeMs: [] as number[], tokens: 0 }]),
  )
  let isOver = false
  let sent = 0
  const send = (sender: ClosedTenant): void => {
    if (isOver) return
    const { tenant, promptTokens, newTokens, pauseMs = 0 } = sender
    const sentAtMs = simulation.nowMs()
    const own = times.get(tenant)
    let hasToken = false
    const index = adapterOf(sender, sent)
    const adapter = index === undefined ? undefined : contents.add(index)
    sent += 1
    const request = {
      tenant,
      ...(adapter === undefined ? {} : { adapter }),
      bytes: adapterBytes,
      promptTokens: about(promptTokens),
      newTokens: about(newTokens),
      deadlineMs: DEADLINE_MS,
    }
    worker.submit(request, {
      accepted: () => {},
      token() {
        if (own === undefined || sentAtMs < warmupMs) return
        own.tokens += 1
        if (!hasToken) own.firstTokenMs.push(simulation.nowMs() - sentAtMs)
        hasToken = true
      },
      ended() {
        if (own !== undefined && sentAtMs >= warmupMs) own.wholeMs.push(simulation.nowMs() - sentAtMs)
        simulation.after(pauseMs, () => send(sender))
      },
    })
  }
  for (const sender of tenants) for (let at = 0; at < sender.atOnce; at++) simulation.after(at, () => send(sender))
  await simulation.run(() => {
    isOver ||= simulation.nowMs() >= forMs
    return isOver
  })
  for (const own of times.values()) {
    own.firstTokenMs.sort((a, b) => a - b)
    own.wholeMs.sort((a, b) => a - b)
  }
  return times
}

function adapterOf({ adapters, scansFrom }: ClosedTenant, count: number): number | undefined {
  return scansFrom === undefined ? adapters?.[count % adapters.length] : scansFrom + count
}

/** @param ascending sorted; NaN of nothing */
export function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? Number.NaN
}
