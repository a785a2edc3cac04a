import type { Bench, BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { quantile } from '../shared/statistics.ts'
import { type ClusterResult, measureCluster } from '../simulator/measure.ts'
import type { PolicyName } from '../simulator/policies.ts'
import { bestStaticHitRate } from '../simulator/workload.ts'
import { measureDecision } from './decision-part.ts'
import { clusterPlan, flashCrowd, type Scenario, SLOTS, scenarios, WORKERS } from './scenarios.ts'

const policyIds: Readonly<Record<PolicyName, string>> = {
  quiver: 'quiver',
  random: 'random',
  'round robin': 'round-robin',
  'least loaded': 'least-loaded',
  rendezvous: 'rendezvous',
  'bounded loads': 'bounded-loads',
  'lora affinity (GIE)': 'gie',
}
const others = (Object.keys(policyIds) as PolicyName[]).filter((name) => name !== 'quiver')
/** Plain rendezvous overloads the hottest adapter's worker without end: its times say nothing. */
const stable = others.filter((name) => name !== 'rendezvous')
/** Share of a run that warms up. */
const WARMUP = 0.6
/** Of the best static assignment, what a policy that learns as it goes can be asked for. */
const OF_THE_BEST = 0.93

export const placementBench: Bench = {
  name: 'placement',
  title: 'Placement in a simulated cluster',
  description:
    'The very placement, planner and tiers under a simulated clock: 8 workers of 32 slots at 70 % of what they can do, adapters of ' +
    '42 MB, device and network by a model of time (bench/simulator/device-model.ts: round figures of one GPU, not measured). One seed, so ' +
    'a run can be repeated to the last event; times are simulated times. Only the time of a decision is measured on this machine.',
  parts: [...scenarios.map(({ id }) => id), 'flash-crowd', 'crowded', 'decision'],
  async run(context) {
    const isWanted = (part: string) => context.only.length === 0 || context.only.includes(part)
    const figures: Figure[] = []
    for (const scenario of scenarios) if (isWanted(scenario.id)) figures.push(...(await compare(context, scenario)))
    if (isWanted('flash-crowd')) figures.push(...(await measureFlashCrowd(context)))
    if (isWanted('crowded')) figures.push(...(await measureCrowded(context)))
    if (isWanted('decision')) figures.push(...measureDecision(context))
    return figures
  },
}

function requestsOf({ quick }: BenchContext): number {
  return quick ? 8_000 : 60_000
}

async function compare(context: BenchContext, scenario: Scenario): Promise<Figure[]> {
  const { seed, progress } = context
  const results = new Map<PolicyName, ClusterResult>()
  for (const policy of Object.keys(policyIds) as PolicyName[]) {
    context.signal.throwIfAborted()
    progress(`${scenario.title}: ${policy}`)
    const plan = clusterPlan(scenario.workload, policy, seed, requestsOf(context))
    results.set(policy, await measureCluster(scenario.change?.(plan) ?? plan, WARMUP))
  }
  return [...hitRates(scenario, results), ...firstTokens(scenario, results), ...loadFigures(scenario, results)]
}

function hitRates({ id, title, workload }: Scenario, results: ReadonlyMap<PolicyName, ClusterResult>): Figure[] {
  const best = bestStaticHitRate(workload.adapters, workload.exponent, WORKERS * SLOTS)
  const isTarget = id.startsWith('zipf')
  return [...results].map(([policy, { deviceHitRate }]) => ({
    id: `placement.${id}.hits.${policyIds[policy]}`,
    group: `${title}: requests that found their adapter in a slot${isTarget ? ` (best static assignment: ${best.toFixed(3)})` : ''}`,
    label: policy,
    unit: 'share',
    value: deviceHitRate,
    ...(isTarget && policy === 'quiver' ? { target: { at: 'least', value: Number((OF_THE_BEST * best).toFixed(3)) } } : {}),
  }))
}

function firstTokens({ id, title }: Scenario, results: ReadonlyMap<PolicyName, ClusterResult>): Figure[] {
  const group = `${title}: simulated time to the first token`
  const p99 = (policy: PolicyName) => timeQuantile(results.get(policy), 0.99)
  const times = [...results].flatMap(([policy, result]): Figure[] =>
    ([0.5, 0.99] as const).map((share) => ({
      id: `placement.${id}.ttft-p${share * 100}.${policyIds[policy]}`,
      group,
      label: `${policy}, p${share * 100}`,
      unit: 'ms',
      value: timeQuantile(result, share),
    })),
  )
  if (!id.startsWith('zipf')) return times
  return [
    ...times,
    {
      id: `placement.${id}.p99-of-least-loaded`,
      group,
      label: 'p99: quiver ÷ least loaded',
      unit: 'x',
      value: p99('quiver') / p99('least loaded'),
      target: { at: 'most', value: 0.5 },
    },
    {
      id: `placement.${id}.p99-of-best-other`,
      group,
      label: 'p99: quiver ÷ best other policy',
      unit: 'x',
      value: p99('quiver') / Math.min(...stable.map(p99)),
      target: { at: 'most', value: 0.8 },
    },
  ]
}

function loadFigures({ id, title }: Scenario, results: ReadonlyMap<PolicyName, ClusterResult>): Figure[] {
  return [...results].flatMap(([policy, { loads, requests, fairness }]): Figure[] => [
    {
      id: `placement.${id}.loads.${policyIds[policy]}`,
      group: `${title}: loads into a slot for each 1,000 requests`,
      label: policy,
      unit: 'loads',
      value: (loads.device / requests) * 1_000,
    },
    {
      id: `placement.${id}.spread.${policyIds[policy]}`,
      group: `${title}: Jain's index over the requests of each worker`,
      label: policy,
      unit: 'share',
      value: fairness,
    },
  ])
}

async function measureFlashCrowd(context: BenchContext): Promise<Figure[]> {
  const measure = (policy: PolicyName) => {
    context.progress(`flash crowd: ${policy}`)
    return measureCluster(clusterPlan(flashCrowd, policy, context.seed, requestsOf(context)), 0.5)
  }
  const figures: Figure[] = []
  for (const policy of ['quiver', 'least loaded'] as const) {
    const { crowd } = await measure(policy)
    figures.push({
      id: `placement.flash-crowd.surplus.${policyIds[policy]}`,
      group: 'Half of all requests suddenly want one adapter that nobody has: loads beyond the replicas it ends with',
      label: `${policy} (${crowd.replicas} replicas)`,
      unit: 'loads',
      value: crowd.copies - crowd.replicas,
      ...(policy === 'quiver' ? { target: { at: 'most', value: 2 } } : {}),
    })
  }
  return figures
}

/** SGLang's median went up 156 times from as many adapters as slots to twice as many (sgl-project/sglang issue 13349). */
async function measureCrowded(context: BenchContext): Promise<Figure[]> {
  const median = async (adapters: number) => {
    context.progress(`${adapters} adapters, all alike, on ${WORKERS * SLOTS} slots`)
    const workload = { name: 'uniform', adapters, exponent: 0 }
    return timeQuantile(await measureCluster(clusterPlan(workload, 'quiver', context.seed, requestsOf(context)), WARMUP), 0.5)
  }
  const [few, many] = [await median((WORKERS * SLOTS) / 2), await median(WORKERS * SLOTS * 2)]
  return [
    {
      id: 'placement.crowded.p50',
      group: 'Twice as many adapters as slots, all asked for alike',
      label: 'p50 to the first token ÷ that with half as many adapters as slots',
      unit: 'x',
      value: many / few,
      target: { at: 'most', value: 3 },
    },
  ]
}

function timeQuantile(result: ClusterResult | undefined, share: number): number {
  return result === undefined ? Number.NaN : quantile(result.firstTokenMs, share)
}
