import { place } from '../../packages/gateway/src/placement/place.ts'
import { placementRules } from '../../packages/gateway/src/placement/placement-rules.ts'
import { TrackedWorker } from '../../packages/gateway/src/placement/tracked-worker.ts'
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { drawBelow, seededRandom } from '../shared/random.ts'
import { quantile } from '../shared/statistics.ts'
import { oneGpu } from '../simulator/device-model.ts'
import { adapterDigest } from '../simulator/workload.ts'

/** What a decision costs this machine with 64 workers and 1,000 adapters in play. */
export function measureDecision({ seed, quick, progress }: BenchContext): Figure[] {
  progress('time of a decision')
  const random = seededRandom(seed)
  const workers = Array.from({ length: 64 }, (_, index) => {
    const presences = ['device', 'ram', 'disk'] as const
    return new TrackedWorker(`worker-${index}`, 32, {
      type: 'snapshot',
      epoch: 'bench',
      sequence: 0,
      load: {
        state: 'ready',
        running: drawBelow(random, 32),
        waiting: 0,
        queuedTokens: drawBelow(random, 500),
        tokensPerSecond: 10_000,
        turnoverMs: 20,
        freeSlots: 0,
        hasSlotToGive: true,
        victim: { requestsPerSecond: random(), reloadMs: 11 },
        reload: oneGpu.loads,
      },
      adapters: Array.from({ length: 200 }, (_, place) => ({
        digest: adapterDigest(drawBelow(random, 1_000)),
        presence: presences[Math.min(2, Math.floor(place / 32))] ?? 'disk',
      })),
    })
  })
  const digests = Array.from({ length: 1_000 }, (_, index) => adapterDigest(index))
  const decide = () => {
    const adapter = digests[drawBelow(random, digests.length)] ?? ''
    const begunAt = performance.now()
    place({ adapter, bytes: 42_000_000, promptTokens: 100 }, workers, placementRules)
    return (performance.now() - begunAt) * 1_000
  }
  const [warmup, measuredRuns] = quick ? [2_000, 2_000] : [20_000, 50_000]
  for (let run = 0; run < warmup; run++) decide()
  const times = Array.from({ length: measuredRuns }, decide)
  const group = 'One decision among 64 workers, 1,000 adapters in play'
  return [
    { id: 'placement.decision.p50', group, label: 'p50', unit: 'µs', value: quantile(times, 0.5) },
    {
      id: 'placement.decision.p99',
      group,
      label: 'p99',
      unit: 'µs',
      value: quantile(times, 0.99),
      target: { at: 'most', value: 50 },
    },
  ]
}
