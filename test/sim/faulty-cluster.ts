/** A simulated cluster in which things go wrong at random, and what must hold all the same. */
import assert from 'node:assert/strict'
import type { AdapterDigest } from '@quiver/protocol'
import { drawBelow, type Random, seededRandom } from '../../bench/shared/random.ts'
import { quantile } from '../../bench/simulator/closed-loop.ts'
import { Cluster } from '../../bench/simulator/cluster.ts'
import { type DeviceModel, twoCores } from '../../bench/simulator/device-model.ts'
import type { AnswerEnd } from '../../bench/simulator/placed-request.ts'
import type { SimulatedWorker } from '../../bench/simulator/simulated-worker.ts'

const DEADLINE_MS = 20_000
const NETWORK_MS = 0.5
/** A quick device, so that a million requests are minutes and not hours. */
const model: DeviceModel = { ...twoCores, promptTokenMs: 0.1 }

export interface FaultyRun {
  readonly seed: number
  readonly requests: number
}

export interface FaultyOutcome {
  readonly ends: Readonly<Record<AnswerEnd, number>>
  readonly tokens: number
  readonly faults: Readonly<Record<string, number>>
  /** The 99th percentile of the other tenants' times divided by that of the one that floods. */
  readonly othersWait: number
}

/**
 * Runs requests through three to six workers that are killed, stalled, slowed, cut off from their gateway, and refused by their
 * origin, with clients that leave. Throws at the first thing that must not be:
 *
 * - I1 a token computed with other weights than its request's, by what lies in the slot's memory and not by its label;
 * - I2 an eviction under a lease (asserted by the tiers), or a lease that is still out at the end;
 * - I3 bytes in a slot or in RAM that have not the digest they are known by, though origins send other bytes and bits flip on disks;
 * - I4 a request that ends twice, not at all, or after its deadline;
 * - I5 anything left over at the end: a run, a load, a dispatch that is still counted;
 * - I6 one tenant that sends as much as all others and is better off for it: the slowest hundredth of theirs waits longer than its own.
 *   How little they notice of it without other faults is held to in tenants.test.ts.
 */
export async function runFaulty({ seed, requests }: FaultyRun): Promise<FaultyOutcome> {
  const random = seededRandom(seed)
  const cluster = new Cluster({
    seed,
    policy: 'quiver',
    workload: {
      name: 'random',
      adapters: 20 + drawBelow(random, 200),
      exponent: random() * 1.4,
      base: 0.1,
      scan: 0.05,
      tenants: 5,
      flood: 0.5,
    },
    workers: 3 + drawBelow(random, 4),
    capacity: () => ({
      sequences: 16,
      slots: 4 + drawBelow(random, 12),
      chunkTokens: 64,
      reservedShare: 0.25,
      ramBytes: 100_000_000,
    }),
    model,
    requests,
    load: 0.5 + random() * 0.6,
    promptTokens: 24,
    newTokens: 8,
    adapterBytes: 5_000_000,
    deadlineMs: DEADLINE_MS,
    networkMs: NETWORK_MS,
    fetched(content, contents) {
      const luck = random()
      return luck < 0.02 ? undefined : luck < 0.03 ? contents.damaged(content) : content
    },
  })
  const ends: Record<AnswerEnd, number> = { done: 0, failed: 0, expired: 0, left: 0 }
  const faults: Record<string, number> = {}
  let tokens = 0
  let open = 0
  const tookMs = { flood: [] as number[], others: [] as number[] }
  await cluster.run({
    onArrival: () => disturb(cluster, random, faults),
    answerFor(_, request) {
      const sentAtMs = cluster.simulation.nowMs()
      const wanted: AdapterDigest | undefined = request.adapter
      let ended: AnswerEnd | undefined
      open += 1
      const answer = {
        token(weights: AdapterDigest | undefined) {
          assert.equal(weights, wanted, 'I1: a token comes of the weights that were asked for')
          assert.equal(ended, undefined, 'I4: nothing follows the end')
          tokens += 1
        },
        ended(end: AnswerEnd) {
          assert.equal(ended, undefined, 'I4: a request ends once')
          assert.ok(cluster.simulation.nowMs() - sentAtMs <= DEADLINE_MS, 'I4: a request ends within its deadline')
          ended = end
          // One worker after the other: all of them after each would be most of the work.
          cluster.workers[tokens % cluster.workers.length]?.tiers.assertSound()
          const took = cluster.simulation.nowMs() - sentAtMs
          if (end !== 'left') tookMs[request.tenant === 'flood' ? 'flood' : 'others'].push(took)
          ends[end] += 1
          open -= 1
        },
      }
      const leavesAfterMs = random() < 0.05 ? random() * 500 : undefined
      const onSent = (leave: () => void) => {
        if (leavesAfterMs !== undefined) cluster.simulation.after(leavesAfterMs, leave)
      }
      return { answer, onSent }
    },
  })
  assert.equal(open, 0, 'I4: every request ends')
  for (const worker of cluster.workers) {
    worker.assertIdle()
    worker.tiers.assertSound()
    assert.equal(cluster.gateway.requestsAt(worker), 0, 'I5: no dispatch is still counted')
  }
  const [flood = 0, others = 0] = [tookMs.flood, tookMs.others].map((times) =>
    quantile(
      times.sort((a, b) => a - b),
      0.99,
    ),
  )
  assert.ok(others <= 1.5 * flood + 1_000, `I6: others wait ${others} ms where who floods waits ${flood}`)
  return { ends, tokens, faults, othersWait: others / flood }
}

/** One fault in some hundred arrivals. */
function disturb({ workers, gateway, simulation }: Cluster, random: Random, faults: Record<string, number>): void {
  if (random() > 0.01) return
  const worker = workers[drawBelow(random, workers.length)]
  if (worker === undefined || !worker.isAlive) return
  const kinds: Readonly<Record<string, (victim: SimulatedWorker) => void>> = {
    kill(victim) {
      victim.kill()
      simulation.after(100 + random() * 3_000, () => victim.restart())
    },
    stall: (victim) => victim.stall(random() * 5_000),
    deafen: (victim) => gateway.deafen(victim, random() * 3_000),
    damage: (victim) => victim.tiers.damageDisk(random()),
    slow(victim) {
      victim.slowDown(10)
      simulation.after(random() * 3_000, () => victim.slowDown(1))
    },
  }
  const names = Object.keys(kinds)
  const name = names[drawBelow(random, names.length)] ?? 'kill'
  kinds[name]?.(worker)
  faults[name] = (faults[name] ?? 0) + 1
}
