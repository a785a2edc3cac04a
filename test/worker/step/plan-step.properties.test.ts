import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { planStep } from '../../../packages/worker/src/step/plan-step.ts'
import type { RunningView, StepView, WaitingView } from '../../../packages/worker/src/step/step-plan.ts'
import { randomSeed } from '../../support/random-seed.ts'
import { free, loading, resident, running, view, waiting } from '../../support/step-views.ts'

const seed = randomSeed('planStep properties')

interface Limits {
  readonly sequences: number
  readonly chunkTokens: number
}

const slotCount = 3
const adapters = ['a', 'b', 'c', 'd', 'e', 'f']
const fate = fc.constantFrom('live', 'live', 'live', 'live', 'cancelled') as fc.Arbitrary<'live' | 'cancelled'>
const deadlineAtMs = fc.integer({ min: 50, max: 400 })

/** A state that a worker can be in: distinct adapters in the slots, and running sequences that hold leases on them. */
const state: fc.Arbitrary<[StepView, Limits]> = fc
  .record({
    sequences: fc.integer({ min: 1, max: 6 }),
    chunkTokens: fc.integer({ min: 1, max: 9 }),
    nowMs: fc.integer({ min: 0, max: 100 }),
    inSlots: fc.shuffledSubarray(adapters, { minLength: slotCount, maxLength: slotCount }),
    slotStates: fc.array(fc.constantFrom('free', 'loading', 'resident', 'resident'), {
      minLength: slotCount,
      maxLength: slotCount,
    }),
    lastUsed: fc.array(fc.nat(99), { minLength: slotCount, maxLength: slotCount }),
    runs: fc.array(
      fc.record({
        place: fc.integer({ min: -1, max: slotCount - 1 }),
        prompt: fc.integer({ min: 1, max: 12 }),
        done: fc.nat(14),
        fate,
        deadlineAtMs,
      }),
      { maxLength: 6 },
    ),
    waits: fc.array(
      fc.record({
        adapter: fc.option(fc.constantFrom(...adapters)),
        prompt: fc.integer({ min: 1, max: 12 }),
        arriving: fc.boolean(),
        fate,
        deadlineAtMs,
      }),
      { maxLength: 8 },
    ),
  })
  .map(({ sequences, chunkTokens, nowMs, inSlots, slotStates, lastUsed, runs, waits }) => {
    const runningViews: RunningView[] = runs.slice(0, sequences).flatMap(({ place, prompt, done, ...rest }, index) => {
      if (place >= 0 && slotStates[place] !== 'resident') return []
      const slot = place < 0 ? {} : { slot: place, adapter: inSlots[place] ?? 'a' }
      const progress = done < prompt ? { generated: 0, computed: done } : { generated: done - prompt + 1, computed: done }
      return [running(index + 1, { prompt, ...progress, ...slot, ...rest })]
    })
    const leases = (slot: number) =>
      runningViews.filter(({ adapter }) => adapter.kind === 'adapter' && adapter.slot === slot).length
    const slots = inSlots.map((adapter, slot) => {
      if (slotStates[slot] === 'free') return free(slot)
      return slotStates[slot] === 'loading' ? loading(slot, adapter) : resident(slot, adapter, leases(slot), lastUsed[slot])
    })
    const waitingViews: WaitingView[] = waits.map(({ adapter, ...rest }, index) =>
      waiting(index + 100, { ...rest, ...(adapter === null ? {} : { adapter }) }),
    )
    return [view({ nowMs, running: runningViews, waiting: waitingViews, slots }), { sequences, chunkTokens }]
  })

function check(promise: (input: StepView, limits: Limits) => void): void {
  fc.assert(
    fc.property(state, ([input, limits]) => {
      promise(input, limits)
    }),
    { seed, numRuns: 500 },
  )
}

describe('planStep', () => {
  it('gives the same plan for the same input and does not touch it', () => {
    // The views are deeply frozen: a write would throw.
    check((input, limits) => {
      expect(planStep(input, limits)).toEqual(planStep(structuredClone(input), limits))
    })
  })

  it('never evicts a slot that a staying sequence uses, and never loads one adapter twice', () => {
    check((input, limits) => {
      const plan = planStep(input, limits)
      const leaving = new Set(plan.finishes.map(({ sequence }) => sequence))
      const used = new Set<number>(
        input.running.flatMap(({ sequence, adapter }) =>
          adapter.kind === 'base' || leaving.has(sequence) ? [] : [adapter.slot],
        ),
      )
      for (const admission of plan.admissions) if (admission.kind === 'adapter') used.add(admission.slot)
      expect(plan.loads.filter(({ slot }) => used.has(slot))).toEqual([])
      expect(new Set(plan.loads.map(({ slot }) => slot)).size).toBe(plan.loads.length)
      const staying = input.slots.filter((slot) => !plan.loads.some((load) => load.slot === slot.slot))
      const digests = [
        ...staying.flatMap((slot) => (slot.state === 'free' ? [] : [slot.digest])),
        ...plan.loads.map(({ digest }) => digest),
      ]
      expect(new Set(digests).size).toBe(digests.length)
    })
  })

  it('keeps within the chunk and the places', () => {
    check((input, limits) => {
      const plan = planStep(input, limits)
      if (plan.kind === 'idle') return
      const prefill = plan.work.filter(({ phase }) => phase === 'prefill').reduce((sum, { rowCount }) => sum + rowCount, 0)
      expect(prefill).toBeLessThanOrEqual(limits.chunkTokens)
      const staying = input.running.length - plan.finishes.filter(({ sequence }) => sequence < 100).length
      expect(staying + plan.admissions.length).toBeLessThanOrEqual(limits.sequences)
    })
  })

  it('continues every sequence exactly where it stands, with rows of a sequence and of a slot side by side', () => {
    check((input, limits) => {
      const plan = planStep(input, limits)
      if (plan.kind === 'idle') return
      const computed = new Map(input.running.map((sequence) => [sequence.sequence, sequence.computed]))
      for (const work of plan.work) {
        const rows = plan.rows.slice(work.firstRow, work.firstRow + work.rowCount)
        const from = computed.get(work.sequence) ?? 0
        expect(rows.map(({ position }) => position)).toEqual(rows.map((_, index) => from + index))
        expect(rows.every(({ sequence, slot }) => sequence === work.sequence && slot === work.slot)).toBe(true)
      }
      expect(plan.work.reduce((sum, { rowCount }) => sum + rowCount, 0)).toBe(plan.rows.length)
      expect(new Set(plan.segments.map(({ slot }) => slot)).size).toBe(plan.segments.length)
      expect(plan.segments.reduce((sum, { rowCount }) => sum + rowCount, 0)).toBe(plan.rows.length)
    })
  })

  it('keeps busy: everybody who decodes gets a row, and nobody who could run waits while there is room', () => {
    check((input, limits) => {
      const plan = planStep(input, limits)
      const leaving = new Set(plan.finishes.map(({ sequence }) => sequence))
      const worked = new Map(plan.kind === 'run' ? plan.work.map(({ sequence, rowCount }) => [sequence, rowCount]) : [])
      const stays = input.running.filter(({ sequence }) => !leaving.has(sequence))
      for (const { sequence, computed, promptLength } of stays) if (computed >= promptLength) expect(worked.get(sequence)).toBe(1)
      const prefill =
        plan.kind === 'run'
          ? plan.work.filter(({ phase }) => phase === 'prefill').reduce((sum, { rowCount }) => sum + rowCount, 0)
          : 0
      const hasRoom = prefill < limits.chunkTokens && stays.length + plan.admissions.length < limits.sequences
      if (!hasRoom) return
      const admitted = new Set(plan.admissions.map(({ sequence }) => sequence))
      const left = input.waiting.filter(({ sequence }) => !leaving.has(sequence) && !admitted.has(sequence))
      expect(left.filter(({ adapter }) => adapter.kind === 'base')).toEqual([])
      // Who is left wants an adapter that is in no slot, on its way into one, evicted just now, or in a slot that drains
      // for somebody further ahead.
      const kept = input.slots.filter(({ slot }) => !plan.loads.some((load) => load.slot === slot))
      const starved = left.findIndex(
        ({ adapter }) =>
          adapter.kind === 'adapter' &&
          adapter.state === 'ready' &&
          !kept.some((slot) => slot.state !== 'free' && slot.digest === adapter.digest) &&
          !plan.loads.some(({ digest }) => digest === adapter.digest),
      )
      for (const [index, { adapter }] of left.entries()) {
        if (adapter.kind === 'base') continue
        if (!kept.some((candidate) => candidate.state === 'resident' && candidate.digest === adapter.digest)) continue
        expect(starved).toBeGreaterThanOrEqual(0)
        expect(index).toBeGreaterThan(starved)
      }
    })
  })
})
