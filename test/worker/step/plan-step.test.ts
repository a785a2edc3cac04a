import { describe, expect, it } from 'vitest'
import { OVERTAKEN_MS } from '../../../packages/worker/src/step/fair-order.ts'
import { planStep } from '../../../packages/worker/src/step/plan-step.ts'
import type { StepPlan } from '../../../packages/worker/src/step/step-plan.ts'
import { digestOf, free, loading, resident, running, view, waiting } from '../../support/step-views.ts'

const limits = { sequences: 4, chunkTokens: 8 }

/** Rows as `sequence:position@slot`. */
function rowsOf(plan: StepPlan): string[] {
  return plan.kind === 'run' ? plan.rows.map(({ sequence, position, slot }) => `${sequence}:${position}@${slot}`) : []
}
const admitted = (plan: StepPlan) => plan.admissions.map(({ sequence }) => sequence)
const loads = (plan: StepPlan) => plan.loads.map(({ digest, slot }) => [digest, slot])

describe('planStep', () => {
  it('is idle without sequences and wakes never', () => {
    expect(planStep(view({}), limits)).toEqual({
      kind: 'idle',
      finishes: [],
      loads: [],
      admissions: [],
      wakeAtMs: Number.POSITIVE_INFINITY,
    })
  })

  it('gives every decoding sequence one row, at the position of its newest token', () => {
    const plan = planStep(
      view({ running: [running(1, { prompt: 3, generated: 1 }), running(2, { prompt: 5, generated: 4 })] }),
      limits,
    )
    expect(rowsOf(plan)).toEqual(['1:3@-1', '2:8@-1'])
    expect(plan).toMatchObject({
      wanted: [
        { row: 0, top: 1 },
        { row: 1, top: 1 },
      ],
    })
  })

  it('cuts a long prompt into chunks and wants only the last row of all', () => {
    const first = planStep(view({ waiting: [waiting(1, { prompt: 20 })] }), limits)
    expect(rowsOf(first)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((position) => `1:${position}@-1`))
    expect(first).toMatchObject({ wanted: [], work: [{ phase: 'prefill', rowCount: 8 }] })
    const last = planStep(view({ running: [running(1, { prompt: 20, generated: 0, computed: 16 })] }), limits)
    expect(rowsOf(last)).toEqual(['1:16@-1', '1:17@-1', '1:18@-1', '1:19@-1'])
    expect(last).toMatchObject({ wanted: [{ row: 3, top: 1 }] })
  })

  it('lets short prompts share a step, first come first served, and cuts the one that does not fit whole', () => {
    const plan = planStep(view({ waiting: [waiting(1), waiting(2), waiting(3), waiting(4)] }), limits)
    expect(rowsOf(plan)).toEqual(['1:0', '1:1', '1:2', '2:0', '2:1', '2:2', '3:0', '3:1'].map((row) => `${row}@-1`))
    expect(admitted(plan)).toEqual([1, 2, 3])
  })

  it('computes decode rows beside a prompt chunk that is full', () => {
    const plan = planStep(
      view({ running: [running(1), running(2, { prompt: 30, generated: 0, computed: 8 }), running(3)], waiting: [waiting(4)] }),
      limits,
    )
    expect(plan).toMatchObject({
      work: [
        { sequence: 1, phase: 'decode', rowCount: 1 },
        { sequence: 3, phase: 'decode', rowCount: 1 },
        { sequence: 2, phase: 'prefill', rowCount: 8 },
      ],
      admissions: [],
    })
  })

  it('wants every prompt row where prompt details are asked for, with alternatives at the last alone', () => {
    const plan = planStep(view({ waiting: [waiting(1, { promptDetails: true, top: 5 })] }), limits)
    expect(plan).toMatchObject({
      wanted: [
        { row: 0, top: 1 },
        { row: 1, top: 1 },
        { row: 2, top: 5 },
      ],
    })
  })

  it('wants no distribution of a sequence that embeds, in any chunk, and names it beside those that generate', () => {
    const long = { prompt: 9, embeds: true }
    const first = planStep(view({ running: [running(1)], waiting: [waiting(2, long)] }), limits)
    expect(first).toMatchObject({ wanted: [{ row: 0, top: 1 }], pooled: [2], work: [{ rowCount: 1 }, { rowCount: 8 }] })
    const last = planStep(view({ running: [running(1), running(2, { ...long, generated: 0, computed: 8 })] }), limits)
    expect(last).toMatchObject({ wanted: [{ row: 0, top: 1 }], pooled: [2], work: [{ rowCount: 1 }, { rowCount: 1 }] })
  })

  it('admits nobody beyond the places, and uses places that come free in the same step', () => {
    const four = [1, 2, 3, 4].map((id) => running(id))
    expect(admitted(planStep(view({ running: four, waiting: [waiting(5)] }), limits))).toEqual([])
    const oneLeaves = [running(1, { fate: 'cancelled' }), ...four.slice(1)]
    const plan = planStep(view({ running: oneLeaves, waiting: [waiting(5), waiting(6)] }), limits)
    expect(plan.finishes).toEqual([{ sequence: 1, cause: 'cancelled' }])
    expect(admitted(plan)).toEqual([5])
    expect(rowsOf(plan)).not.toContain('1:3@-1')
  })

  it('ends cancelled, failed and expired sequences, waiting or running, before anything else', () => {
    const plan = planStep(
      view({
        nowMs: 500,
        running: [running(1, { deadlineAtMs: 500 }), running(2, { deadlineAtMs: 501 })],
        waiting: [
          waiting(3, { fate: 'cancelled' }),
          waiting(4, { fate: 'failed', adapter: 'a' }),
          waiting(5, { deadlineAtMs: 499 }),
        ],
        slots: [free(0)],
      }),
      limits,
    )
    expect(plan.finishes).toEqual([
      { sequence: 1, cause: 'expired' },
      { sequence: 3, cause: 'cancelled' },
      { sequence: 4, cause: 'failed' },
      { sequence: 5, cause: 'expired' },
    ])
    expect(rowsOf(plan)).toEqual(['2:3@-1'])
    expect(plan.loads).toEqual([])
  })

  it('sleeps until the next deadline when all who wait must wait', () => {
    const late = waiting(1, { adapter: 'a', arriving: true, deadlineAtMs: 900 })
    const early = waiting(2, { adapter: 'b', arriving: true, deadlineAtMs: 700 })
    expect(planStep(view({ waiting: [late, early], slots: [free(0)] }), limits)).toMatchObject({ kind: 'idle', wakeAtMs: 700 })
  })

  it('passes over a sequence whose adapter is on its way, and serves those behind it', () => {
    const plan = planStep(
      view({
        waiting: [waiting(1, { adapter: 'a', arriving: true }), waiting(2, { adapter: 'b' }), waiting(3)],
        slots: [free(0), resident(1, 'b')],
      }),
      limits,
    )
    expect(admitted(plan)).toEqual([2, 3])
    expect(plan.loads).toEqual([])
  })

  it('sorts rows by slot and names the segments', () => {
    const plan = planStep(
      view({
        running: [
          running(1, { slot: 1, adapter: 'b' }),
          running(2),
          running(3, { slot: 0, adapter: 'a' }),
          running(4, { slot: 1, adapter: 'b' }),
        ],
        slots: [resident(0, 'a', 1), resident(1, 'b', 2)],
      }),
      limits,
    )
    expect(rowsOf(plan)).toEqual(['2:3@-1', '3:3@0', '1:3@1', '4:3@1'])
    expect(plan).toMatchObject({
      segments: [
        { slot: -1, firstRow: 0, rowCount: 1 },
        { slot: 0, firstRow: 1, rowCount: 1 },
        { slot: 1, firstRow: 2, rowCount: 2 },
      ],
    })
  })

  it('refuses to go on when a running sequence lost its slot', () => {
    const lost = view({ running: [running(1, { slot: 0, adapter: 'a', generation: 1 })], slots: [resident(0, 'b', 1)] })
    expect(() => planStep(lost, limits)).toThrow(/slot 0 no longer holds/)
    const again = view({ running: [running(1, { slot: 0, adapter: 'a', generation: 0 })], slots: [resident(0, 'a', 1)] })
    expect(() => planStep(again, limits)).toThrow(/slot 0 no longer holds/)
  })
})

describe('planStep with slots', () => {
  it('loads an adapter that is ready into a free slot, once for all who want it', () => {
    const plan = planStep(
      view({ waiting: [waiting(1, { adapter: 'a' }), waiting(2, { adapter: 'a' })], slots: [resident(0, 'x'), free(1)] }),
      limits,
    )
    expect(plan.loads).toEqual([{ sequence: 1, digest: digestOf('a'), slot: 1, generation: 0 }])
    expect(admitted(plan)).toEqual([])
  })

  it('does not load again what is being loaded', () => {
    const plan = planStep(view({ waiting: [waiting(1, { adapter: 'a' })], slots: [loading(0, 'a'), free(1)] }), limits)
    expect(plan).toMatchObject({ kind: 'idle', loads: [] })
  })

  it('admits to a slot although the copy in RAM is gone and on its way again', () => {
    const plan = planStep(view({ waiting: [waiting(1, { adapter: 'a', arriving: true })], slots: [resident(0, 'a')] }), limits)
    expect(admitted(plan)).toEqual([1])
  })

  it('evicts the least recently used slot that nobody uses', () => {
    const slots = [resident(0, 'x', 1, 5), resident(1, 'y', 0, 30), resident(2, 'z', 0, 20)]
    const plan = planStep(
      view({ running: [running(9, { slot: 0, adapter: 'x' })], waiting: [waiting(1, { adapter: 'a' })], slots }),
      limits,
    )
    expect(loads(plan)).toEqual([[digestOf('a'), 2]])
  })

  it('evicts no slot that somebody further ahead wants', () => {
    const slots = [resident(0, 'x', 0, 1), resident(1, 'y', 0, 2)]
    const waiters = [waiting(1, { adapter: 'x' }), waiting(2, { adapter: 'a' }), waiting(3, { adapter: 'b' })]
    const plan = planStep(view({ waiting: waiters, slots }), { ...limits, sequences: 0 })
    expect(loads(plan)).toEqual([[digestOf('a'), 1]])
  })

  it('evicts what nobody waits for, else what is waited for furthest back', () => {
    const slots = [resident(0, 'x', 0, 1), resident(1, 'y', 0, 2), resident(2, 'z', 0, 3)]
    const none = { ...limits, sequences: 0 }
    const unwanted = [waiting(1, { adapter: 'a' }), waiting(2, { adapter: 'x' }), waiting(3, { adapter: 'z' })]
    expect(loads(planStep(view({ waiting: unwanted, slots }), none))).toEqual([[digestOf('a'), 1]])
    const furthest = ['a', 'x', 'z', 'y'].map((adapter, index) => waiting(index + 1, { adapter, arrivedAtMs: -OVERTAKEN_MS }))
    expect(loads(planStep(view({ waiting: furthest, slots }), none))).toEqual([[digestOf('a'), 1]])
  })

  it('gives the slots to the oldest waiters when there are more adapters than slots', () => {
    const waiters = ['a', 'b', 'c', 'd'].map((adapter, index) => waiting(index + 1, { adapter }))
    const plan = planStep(view({ waiting: waiters, slots: [free(0), free(1)] }), limits)
    expect(loads(plan)).toEqual([
      [digestOf('a'), 0],
      [digestOf('b'), 1],
    ])
  })

  it('uses a slot that a leaving sequence frees in the same step', () => {
    const plan = planStep(
      view({
        running: [running(9, { slot: 0, adapter: 'x', fate: 'cancelled' })],
        waiting: [waiting(1, { adapter: 'a' })],
        slots: [resident(0, 'x', 1)],
      }),
      limits,
    )
    expect(loads(plan)).toEqual([[digestOf('a'), 0]])
  })

  it('drains the slot with the fewest users for a waiter without a slot: nobody behind it may join', () => {
    const slots = [resident(0, 'x', 2), resident(1, 'y', 1)]
    const users = [
      running(7, { slot: 0, adapter: 'x' }),
      running(8, { slot: 0, adapter: 'x' }),
      running(9, { slot: 1, adapter: 'y' }),
    ]
    const roomy = { ...limits, sequences: 8 }
    // As long ago that nobody may overtake for the sake of a slot any more.
    const arrivedAtMs = -OVERTAKEN_MS
    const waiters = [
      waiting(1, { adapter: 'y', prompt: 1, arrivedAtMs }),
      waiting(2, { adapter: 'a', arrivedAtMs }),
      waiting(3, { adapter: 'y', arrivedAtMs }),
      waiting(4, { adapter: 'x', arrivedAtMs }),
    ]
    // Sequence 1 asks before the newcomer 2: it joins y, so x (index 0) is drained instead, and 4 has to wait.
    const joined = planStep(view({ running: users, waiting: waiters, slots }), roomy)
    expect(admitted(joined)).toEqual([1, 3])
    const drained = planStep(view({ running: users, waiting: waiters.slice(1), slots }), roomy)
    expect(admitted(drained)).toEqual([4])
    expect(drained.loads).toEqual([])
  })
})
