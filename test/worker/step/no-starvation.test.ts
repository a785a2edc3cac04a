import { describe, expect, it } from 'vitest'
import { OVERTAKEN_MS, TURN_TOKENS } from '../../../packages/worker/src/step/fair-order.ts'
import { PlannedWorker } from '../../support/planned-worker.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

const limits = { sequences: 8, chunkTokens: 8 }
const [loadSteps, stepMs] = [3, 20]
const longestAnswer = 12
const longestPrompt = 10
/** What the running sequences can be charged at most: U of `planStep`. */
const leftToCharge = limits.sequences * (longestPrompt + 2 * longestAnswer)

describe('planStep over a long run', () => {
  const seed = randomSeed('no starvation')

  it.each([1, 3])(
    `admits everybody to %i slots before others are served more than a bound, whatever keeps coming (SEED=${seed})`,
    (slotCount) => {
      const random = randomFrom(seed)
      const worker = new PlannedWorker({ limits, slots: slotCount, loadSteps, stepMs })
      const below = (limit: number) => Math.floor(random() * limit)
      const [cold, hot] = [20, slotCount]
      let count = 0
      for (let step = 0; step < 1_500; step++) {
        // The hot adapters, one for each slot, are wanted all the time; now and then comes one of twenty others.
        while (worker.waiting.filter(({ adapter }) => adapter?.startsWith('hot')).length < 12) {
          worker.arrive({ adapter: `hot-${below(hot)}`, prompt: 1 + below(longestPrompt), answer: longestAnswer })
          count += 1
        }
        if (random() < 0.02) {
          worker.arrive({ adapter: `cold-${below(cold)}`, prompt: 1 + below(longestPrompt), answer: 1 + below(longestAnswer) })
          count += 1
        }
        worker.step()
      }
      while (worker.waiting.length > 0) worker.step()
      while (worker.running.length > 0) worker.step()
      expect(worker.ended.length).toBe(count)
      // Of each adapter one turn and what it had begun by then; while whose adapter is in a slot may overtake, all that there is.
      const overtaking = (OVERTAKEN_MS / stepMs) * (limits.chunkTokens + 2 * limits.sequences)
      const bound = overtaking + (cold + hot) * (TURN_TOKENS + leftToCharge)
      for (const { servedAtArrival, servedAtAdmission, aheadInFlow } of worker.ended) {
        expect(servedAtAdmission - servedAtArrival).toBeLessThanOrEqual((aheadInFlow + 1) * bound)
      }
    },
  )

  it('serves far more adapters than slots in turn', () => {
    const worker = new PlannedWorker({ limits, slots: 3, loadSteps, stepMs })
    for (let id = 1; id <= 60; id++) worker.arrive({ adapter: `a-${id % 20}`, prompt: 4, answer: 4 })
    while (worker.waiting.length + worker.running.length > 0) {
      worker.step()
      expect(worker.stepCount).toBeLessThan(1_000)
    }
    expect(worker.ended).toHaveLength(60)
  })

  it('lets an adapter in a slot serve a turn before it goes: a load for every request is the exception', () => {
    const worker = new PlannedWorker({ limits: { sequences: 8, chunkTokens: 32 }, slots: 4, loadSteps, stepMs })
    const random = randomFrom(seed)
    for (let step = 0; step < 1_500; step++) {
      while (worker.waiting.length < 24) worker.arrive({ adapter: `a-${Math.floor(random() * 8)}`, prompt: 10, answer: 6 })
      worker.step()
    }
    expect(worker.loadCount).toBeLessThan(worker.ended.length / 4)
  })
})
