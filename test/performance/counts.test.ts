/**
 * Work that cannot be timed on a machine that others use can be counted: loads, downloads and steps of fixed scenarios must not become more
 * than they were. Whoever makes them fewer, or has a reason for more, writes the new counts down here and says in the commit why.
 */
import { expect, test } from 'vitest'
import { clusterPlan } from '../../bench/placement/scenarios.ts'
import { Cluster } from '../../bench/simulator/cluster.ts'
import { BatchHarness } from '../support/batch-harness.ts'
import { cacheUnderTest } from '../support/cache-under-test.ts'
import { inRam, inSlots, traffic } from '../support/eviction-simulation.ts'
import { scriptedEngineRun } from '../support/scripted-engine-run.ts'

const SEED = 1
const SCAN_EVERY = 60

type Counts = Readonly<Record<string, number>>

/** Each count at most what was recorded. Shown whole, so that new ones can be written down. */
function expectNoMore(counts: Counts, recorded: Counts): void {
  const grown = Object.keys(counts).filter((name) => (counts[name] ?? 0) > (recorded[name] ?? 0))
  expect(grown, `counted ${JSON.stringify(counts)}, recorded ${JSON.stringify(recorded)}`).toEqual([])
}

test('the tiers load no more than was recorded under Zipf traffic, with scans and without', () => {
  const [scans, zipf] = [traffic(SEED, SCAN_EVERY), traffic(SEED, Number.POSITIVE_INFINITY)]
  expectNoMore(
    {
      ramWithScans: inRam(scans).regularLoads,
      slotsWithScans: inSlots(scans).regularLoads,
      ram: inRam(zipf).loads,
      slots: inSlots(zipf).loads,
    },
    { ramWithScans: 881, slotsWithScans: 881, ram: 875, slots: 875 },
  )
})

test('a simulated worker takes no more steps and loads than was recorded', async () => {
  const workload = { name: 'one worker', adapters: 200, exponent: 1 }
  const plan = clusterPlan(workload, 'quiver', SEED, 2000)
  // Room for 60 adapters in RAM.
  const capacity = (index: number) => ({ ...plan.capacity(index), ramBytes: 60 * plan.adapterBytes })
  const cluster = new Cluster({ ...plan, workers: 1, capacity })
  let answered = 0
  const ended = (end: string) => {
    if (end === 'done') answered += 1
  }
  await cluster.run({ answerFor: () => ({ answer: { token: () => {}, ended } }) })
  expect(answered).toBe(2000)
  const { steps, device, disk, origin } = cluster.workers[0]?.counts ?? { steps: 0, device: 0, disk: 0, origin: 0 }
  expectNoMore({ steps, device, disk, origin }, { steps: 6739, device: 697, disk: 273, origin: 187 })
})

test('a hundred who want one adapter at once read each of its files once', async () => {
  const { cache, store, register } = await cacheUnderTest()
  const identity = await register(1)
  const leases = Array.from({ length: 100 }, () => cache.lease(identity))
  await Promise.all(leases.map(({ ready }) => ready))
  for (const lease of leases) lease.release()
  expectNoMore({ reads: store.gets.length }, { reads: 2 })
})

test('a scripted run of the engine takes no more steps, rows, loads and reads than was recorded, and answers everybody', async () => {
  const { tokens, ...counts } = await scriptedEngineRun()
  expect(tokens).toBe(68)
  expectNoMore(counts, { steps: 34, rows: 265, slotLoads: 9, storeReads: 10 })
})

test('a second prompt with the same 512 tokens before its end computes at most a quarter of the first one', async () => {
  const harness = new BatchHarness({ prefixBytes: 1 << 20, chunkTokens: 128, totalTokens: 1024 })
  const rowsOf = async (inputs: string) => {
    const before = harness.loop.state().prefillRows
    await harness.run({ inputs }).end
    await harness.turns()
    return harness.loop.state().prefillRows - before
  }
  const beginning = 'abcdefgh'.repeat(64)
  const cold = await rowsOf(`${beginning} and one end`)
  const warm = await rowsOf(`${beginning}, but another end`)
  expect(warm).toBeLessThanOrEqual(cold / 4)
  expectNoMore({ cold, warm, copiedOut: harness.engine.copiedOut }, { cold: 524, warm: 17, copiedOut: 528 })
})
