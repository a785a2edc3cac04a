import { describe, expect, test } from 'vitest'
import { clusterPlan, scenarios } from '../../bench/placement/scenarios.ts'
import { seededRandom } from '../../bench/shared/random.ts'
import { jainIndex, measureCluster } from '../../bench/simulator/measure.ts'
import type { PolicyName } from '../../bench/simulator/policies.ts'
import { Simulation } from '../../bench/simulator/simulation.ts'
import { bestStaticHitRate, zipfSampler } from '../../bench/simulator/workload.ts'

describe('a simulated world', () => {
  test('lets things happen in the order of their time, and equals in the order of their planning', async () => {
    const simulation = new Simulation()
    const happened: string[] = []
    const note = (what: string) => () => {
      happened.push(`${what} at ${simulation.nowMs()}`)
    }
    simulation.after(5, note('third'))
    simulation.after(1, () => {
      note('first')()
      simulation.after(0, note('second'))
    })
    simulation.after(5, note('fourth'))
    await simulation.run()
    expect(happened).toEqual(['first at 1', 'second at 1', 'third at 5', 'fourth at 5'])
  })

  test('waits for what awaits before the next thing happens', async () => {
    const simulation = new Simulation()
    const happened: string[] = []
    simulation.after(1, async () => {
      await Promise.resolve()
      happened.push('settled')
    })
    simulation.after(1, () => {
      happened.push('next')
    })
    await simulation.run()
    expect(happened).toEqual(['settled', 'next'])
  })
})

describe('a workload', () => {
  test("draws by Zipf's law", () => {
    const draw = zipfSampler(100, 1, seededRandom(1))
    const counts = Array.from({ length: 100 }, () => 0)
    for (let index = 0; index < 100_000; index++) {
      const rank = draw()
      counts[rank] = (counts[rank] ?? 0) + 1
    }
    // 1 / H(100) = 0.1928, and a tenth of that.
    expect((counts[0] ?? 0) / 100_000).toBeCloseTo(0.1928, 1)
    expect((counts[9] ?? 0) / 100_000).toBeCloseTo(0.0193, 2)
  })

  test('has a best static assignment: 256 slots for 1,000 adapters', () => {
    expect([0.8, 1, 1.2].map((exponent) => bestStaticHitRate(1_000, exponent, 256).toFixed(3))).toEqual([
      '0.693',
      '0.818',
      '0.909',
    ])
  })

  test('is spread evenly at 1, and on one of n workers at 1/n', () => {
    expect(jainIndex([5, 5, 5, 5])).toBe(1)
    expect(jainIndex([20, 0, 0, 0])).toBe(0.25)
  })
})

/** Counts of a run with a seed are the same everywhere, so they can be held to. The whole comparison is `npm run bench -- placement`. */
describe('placement in a simulated cluster', () => {
  const run = async (policy: PolicyName) => {
    const [scenario] = scenarios.filter(({ id }) => id === 'zipf10')
    if (scenario === undefined) throw new Error('the scenario is gone')
    return await measureCluster(clusterPlan(scenario.workload, policy, 1, 2_500), 0.6)
  }

  test('finds the adapter in a slot more often than others, with fewer loads', async () => {
    const [ours, least] = [await run('quiver'), await run('least loaded')]
    expect(ours.deviceHitRate).toBeGreaterThan(least.deviceHitRate + 0.1)
    expect(ours.loads.device).toBeLessThan(0.75 * least.loads.device)
    expect(ours.unanswered).toBe(0)
  })
})
