import type { SlotView } from '@quiver/cache'
import type { SequenceId } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { planStep } from '../../../packages/worker/src/step/plan-step.ts'
import type { RunningView, WaitingView } from '../../../packages/worker/src/step/step-plan.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'
import { digestOf, free, running, view, waiting } from '../../support/step-views.ts'

const limits = { sequences: 8, chunkTokens: 8 }
const loadSteps = 3
const longestAnswer = 12
const longestPrompt = 10

interface Simulated {
  readonly id: number
  readonly adapter: string
  readonly prompt: number
  answer: number
  readonly arrivedAt: number
  readonly ahead: number
  computed: number
  slot: number
  generation: number
}

/** The planner alone, with sequences, slots and loads as plain numbers: thousands of steps in a second. */
class SimulatedWorker {
  slots: SlotView[]
  readonly waiting: Simulated[] = []
  readonly running: Simulated[] = []
  readonly waits: { readonly steps: number; readonly ahead: number }[] = []
  readonly #loads: { readonly slot: number; readonly doneAt: number }[] = []
  #step = 0

  constructor(slotCount: number) {
    this.slots = Array.from({ length: slotCount }, (_, slot) => free(slot))
  }

  arrive(id: number, { adapter, prompt, answer }: { adapter: string; prompt: number; answer: number }): void {
    const ahead = this.waiting.length + this.running.length
    this.waiting.push({ id, adapter, prompt, answer, arrivedAt: this.#step, ahead, computed: 0, slot: -1, generation: 0 })
  }

  step(): void {
    this.#step += 1
    this.#finishLoads()
    const plan = planStep(
      view({ running: this.running.map(runningOf), waiting: this.waiting.map(waitingOf), slots: this.#views() }),
      limits,
    )
    for (const { slot, digest, generation } of plan.loads) {
      this.slots[slot] = { state: 'loading', slot, digest, generation: generation + 1 }
      this.#loads.push({ slot, doneAt: this.#step + loadSteps })
    }
    for (const admission of plan.admissions) {
      const sequence = this.waiting.find(({ id }) => id === admission.sequence) as Simulated
      this.waiting.splice(this.waiting.indexOf(sequence), 1)
      this.running.push(sequence)
      if (admission.kind === 'adapter') Object.assign(sequence, { slot: admission.slot, generation: admission.generation })
      this.waits.push({ steps: this.#step - sequence.arrivedAt, ahead: sequence.ahead })
    }
    if (plan.kind === 'idle') return
    for (const work of plan.work) {
      const sequence = this.running.find(({ id }) => id === work.sequence) as Simulated
      sequence.computed += work.rowCount
      if (sequence.computed >= sequence.prompt) sequence.answer -= 1
      if (sequence.answer === 0) this.running.splice(this.running.indexOf(sequence), 1)
    }
  }

  #finishLoads(): void {
    for (const { slot, doneAt } of this.#loads) {
      const content = this.slots[slot]
      if (doneAt !== this.#step || content?.state !== 'loading') continue
      this.slots[slot] = { ...content, state: 'resident', leaseCount: 0, lastUsedMs: this.#step, keepScore: this.#step }
    }
  }

  #views(): SlotView[] {
    return this.slots.map((slot) =>
      slot.state === 'resident'
        ? { ...slot, leaseCount: this.running.filter((sequence) => sequence.slot === slot.slot).length }
        : slot,
    )
  }
}

function waitingOf({ id, adapter, prompt }: Simulated): WaitingView {
  return waiting(id, { adapter, prompt })
}

function runningOf({ id, adapter, prompt, computed, slot, generation }: Simulated): RunningView {
  return running(id as SequenceId, { adapter, prompt, computed, slot, generation, generated: Math.max(0, computed - prompt + 1) })
}

describe('planStep over a long run', () => {
  const seed = randomSeed('no starvation')

  it.each([1, 3])(
    `admits everybody to %i slots within a bound set by those ahead, whatever keeps coming behind (SEED=${seed})`,
    (slotCount) => {
      const random = randomFrom(seed)
      const worker = new SimulatedWorker(slotCount)
      let id = 1
      const below = (limit: number) => Math.floor(random() * limit)
      for (let step = 0; step < 2_000; step++) {
        // The hot adapters, one for each slot, are wanted all the time; now and then comes one of twenty others.
        while (worker.waiting.filter(({ adapter }) => adapter.startsWith('hot')).length < 12) {
          worker.arrive(id++, { adapter: `hot-${below(slotCount)}`, prompt: 1 + below(longestPrompt), answer: longestAnswer })
        }
        if (random() < 0.03) {
          worker.arrive(id++, {
            adapter: `cold-${below(20)}`,
            prompt: 1 + below(longestPrompt),
            answer: 1 + below(longestAnswer),
          })
        }
        worker.step()
      }
      while (worker.waiting.length > 0) worker.step()
      expect(worker.waits.length).toBe(id - 1)
      // Each one ahead may need a load, its whole prompt alone and its whole answer before the next one's turn.
      const turn = loadSteps + Math.ceil(longestPrompt / limits.chunkTokens) + longestAnswer
      for (const { steps, ahead } of worker.waits) expect(steps).toBeLessThanOrEqual((ahead + 1) * turn)
    },
  )

  it('serves far more adapters than slots in turn', () => {
    const worker = new SimulatedWorker(3)
    for (let id = 1; id <= 60; id++) worker.arrive(id, { adapter: `a-${id % 20}`, prompt: 4, answer: 4 })
    let steps = 0
    while (worker.waiting.length + worker.running.length > 0) {
      worker.step()
      steps += 1
      expect(steps).toBeLessThan(1_000)
    }
    expect(worker.waits).toHaveLength(60)
    expect(digestOf('a-1')).toHaveLength(64)
  })
})
