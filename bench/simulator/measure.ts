/** Runs a workload on a simulated cluster and says how well it was served. */
import { Cluster, type ClusterPlan } from './cluster.ts'
import type { SimulatedWorker } from './simulated-worker.ts'
import { adapterDigest } from './workload.ts'

export interface ClusterResult {
  /** Requests measured, the warm-up left out. */
  readonly requests: number
  /** Requests whose adapter was in a slot of their worker when they came. */
  readonly deviceHitRate: number
  readonly loads: { readonly device: number; readonly disk: number; readonly origin: number }
  /** Ascending. */
  readonly firstTokenMs: readonly number[]
  /** Requests that each worker got. */
  readonly perWorker: readonly number[]
  /** Jain's index over `perWorker`: 1 where all got alike, 1/n where one got everything. */
  readonly fairness: number
  readonly unanswered: number
  /** Of the adapter that a crowd wants: how often it was put into a slot anywhere, and in how many workers it is at the end. */
  readonly crowd: { readonly copies: number; readonly replicas: number }
}

/** @param warmup share of the requests that are not measured */
export async function measureCluster(plan: ClusterPlan, warmup: number): Promise<ClusterResult> {
  const cluster = new Cluster(plan)
  const first = Math.floor(plan.requests * warmup)
  const firstTokenMs: number[] = []
  let before = cluster.workers.map(countsOf)
  let unanswered = 0
  await cluster.run({
    onArrival(index) {
      if (index === first) before = cluster.workers.map(countsOf)
    },
    answerFor(index) {
      const sentAtMs = cluster.simulation.nowMs()
      let hasToken = false
      const answer = {
        token() {
          if (!hasToken && index >= first) firstTokenMs.push(cluster.simulation.nowMs() - sentAtMs)
          hasToken = true
        },
        ended(end: string) {
          if (end !== 'done') unanswered += 1
        },
      }
      return { answer }
    },
  })
  const counts = cluster.workers.map(countsOf).map((after, index) => minus(after, before[index] ?? after))
  const sum = (of: (count: Counts) => number) => counts.reduce((total, count) => total + of(count), 0)
  const perWorker = counts.map(({ requests }) => requests)
  const crowd = adapterDigest(plan.workload.adapters)
  const wanted = cluster.workers.map(({ tiers }) => ({ copies: tiers.copiesOf(crowd), isThere: tiers.isInDevice(crowd) }))
  return {
    requests: sum(({ requests }) => requests),
    deviceHitRate: sum(({ hits }) => hits) / sum(({ requests }) => requests),
    loads: { device: sum(({ device }) => device), disk: sum(({ disk }) => disk), origin: sum(({ origin }) => origin) },
    firstTokenMs: firstTokenMs.sort((a, b) => a - b),
    perWorker,
    fairness: jainIndex(perWorker),
    unanswered,
    crowd: {
      copies: wanted.reduce((total, { copies }) => total + copies, 0),
      replicas: wanted.filter(({ isThere }) => isThere).length,
    },
  }
}

/** R. Jain, D. Chiu and W. Hawe, "A Quantitative Measure of Fairness", DEC TR-301, 1984. */
export function jainIndex(shares: readonly number[]): number {
  const total = shares.reduce((sum, share) => sum + share, 0)
  const squares = shares.reduce((sum, share) => sum + share * share, 0)
  return squares === 0 ? 1 : (total * total) / (shares.length * squares)
}

type Counts = SimulatedWorker['counts']

function countsOf({ counts }: SimulatedWorker): Counts {
  return { ...counts }
}

function minus(after: Counts, before: Counts): Counts {
  const keys = Object.keys(after) as (keyof Counts)[]
  return Object.fromEntries(keys.map((key) => [key, after[key] - before[key]])) as Counts
}
