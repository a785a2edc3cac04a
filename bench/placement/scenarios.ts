/** What the simulated clusters are asked to do. */
import type { ClusterPlan } from '../simulator/cluster.ts'
import { oneGpu } from '../simulator/device-model.ts'
import type { PolicyName } from '../simulator/policies.ts'
import type { Workload } from '../simulator/workload.ts'

export const WORKERS = 8
export const SLOTS = 32

/** 8 workers of 32 slots at 70 % of what they could do, adapters of 42 MB, RAM for 190 of them. */
export function clusterPlan(workload: Workload, policy: PolicyName, seed: number, requests: number): ClusterPlan {
  return {
    seed,
    policy,
    workload,
    workers: WORKERS,
    capacity: () => ({ sequences: 32, slots: SLOTS, chunkTokens: 512, ramBytes: 8_000_000_000 }),
    model: oneGpu,
    requests,
    load: 0.7,
    promptTokens: 100,
    newTokens: 60,
    adapterBytes: 42_000_000,
    deadlineMs: 600_000,
    networkMs: 0.3,
  }
}

export interface Scenario {
  readonly id: string
  readonly title: string
  readonly workload: Workload
  readonly change?: (plan: ClusterPlan) => ClusterPlan
}

const thousand = (name: string, exponent: number, more: Partial<Workload> = {}): Workload => ({
  name,
  adapters: 1_000,
  exponent,
  ...more,
})

/** Every other worker has half, every fourth twice the slots. */
const unequalSlots = (plan: ClusterPlan): ClusterPlan => ({
  ...plan,
  capacity: (index) => ({ ...plan.capacity(index), slots: [SLOTS, SLOTS / 2, SLOTS * 2, SLOTS / 2][index % 4] ?? SLOTS }),
})

export const scenarios: readonly Scenario[] = [
  { id: 'zipf08', title: 'Zipf 0.8', workload: thousand('zipf 0.8', 0.8) },
  { id: 'zipf10', title: 'Zipf 1.0', workload: thousand('zipf 1.0', 1) },
  { id: 'zipf12', title: 'Zipf 1.2', workload: thousand('zipf 1.2', 1.2) },
  { id: 'uniform', title: 'uniform', workload: thousand('uniform', 0) },
  {
    id: 'diurnal',
    title: 'which adapters are hot moves through all of them once',
    workload: thousand('diurnal', 1, { rankShift: (share) => share * 1_000 }),
  },
  { id: 'scan', title: 'a fifth of the requests go through all adapters in turn', workload: thousand('scan', 1, { scan: 0.2 }) },
  { id: 'unequal', title: 'Zipf 1.0, workers of 16, 32 and 64 slots', workload: thousand('unequal', 1), change: unequalSlots },
  {
    id: 'few',
    title: 'Zipf 1.0, 100 adapters',
    workload: { name: 'few', adapters: 100, exponent: 1 },
  },
]

/** From the middle on, half of all requests want one adapter that nobody has. */
export const flashCrowd: Workload = thousand('flash crowd', 1, { crowd: (share) => (share >= 0.5 ? 0.5 : 0) })
