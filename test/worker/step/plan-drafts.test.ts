import { describe, expect, it } from 'vitest'
import type { DraftRules } from '../../../packages/worker/src/step/draft-lengths.ts'
import { planStep } from '../../../packages/worker/src/step/plan-step.ts'
import type { StepPlan } from '../../../packages/worker/src/step/step-plan.ts'
import { resident, running, view, waiting } from '../../support/step-views.ts'

const all: DraftRules = { rows: 32, length: 'all', isTogether: true }
const limits = { sequences: 4, chunkTokens: 8, drafts: all }
const draft = { tokens: [70, 71, 72], chance: 0.5 }

/** Rows as `sequence:position=token@slot`, wanted ones with a star. */
function rowsOf(plan: StepPlan): string[] {
  if (plan.kind === 'idle') return []
  const wanted = new Set(plan.wanted.map(({ row }) => row))
  return plan.rows.map(
    ({ sequence, position, token, slot }, row) => `${sequence}:${position}=${token}@${slot}${wanted.has(row) ? '*' : ''}`,
  )
}

describe('planStep with drafts', () => {
  it('computes the guessed tokens behind the newest one and wants the distributions of all of them', () => {
    const plan = planStep(view({ running: [{ ...running(1), draft }, running(2)] }), limits)
    expect(rowsOf(plan)).toEqual(['1:3=3@-1*', '1:4=70@-1*', '1:5=71@-1*', '1:6=72@-1*', '2:3=3@-1*'])
    expect(plan).toMatchObject({
      work: [
        { sequence: 1, phase: 'decode', firstRow: 0, rowCount: 4, draft: [70, 71, 72] },
        { sequence: 2, phase: 'decode', firstRow: 4, rowCount: 1, draft: [] },
      ],
    })
  })

  it('asks for as many alternatives at every guessed token as the request wants', () => {
    const plan = planStep(view({ running: [{ ...running(1, { top: 4 }), draft }] }), limits)
    expect(plan).toMatchObject({ wanted: [0, 1, 2, 3].map((row) => ({ row, top: 4 })) })
  })

  it('keeps the rows of a slot together', () => {
    const sequences = [running(1, { slot: 0, adapter: 'a' }), running(2), running(3, { slot: 0, adapter: 'a' })]
    const plan = planStep(view({ running: sequences.map((one) => ({ ...one, draft })), slots: [resident(0, 'a', 2)] }), limits)
    expect(plan).toMatchObject({
      segments: [
        { slot: -1, firstRow: 0, rowCount: 4 },
        { slot: 0, firstRow: 4, rowCount: 8 },
      ],
    })
  })

  it('takes nothing of the chunk for them, and no more rows than the rules allow', () => {
    const plan = planStep(view({ running: [{ ...running(1), draft }], waiting: [waiting(2, { prompt: 20 })] }), {
      ...limits,
      drafts: { ...all, rows: 2 },
    })
    expect(plan).toMatchObject({
      work: [
        { rowCount: 3, draft: [70, 71] },
        { phase: 'prefill', rowCount: 8, draft: [] },
      ],
    })
  })

  it('computes none without rules, nor for prompts', () => {
    expect(rowsOf(planStep(view({ running: [{ ...running(1), draft }] }), { sequences: 4, chunkTokens: 8 }))).toHaveLength(1)
    const prompt = { ...running(1, { prompt: 4, generated: 0, computed: 2 }), draft }
    expect(rowsOf(planStep(view({ running: [prompt] }), limits))).toEqual(['1:2=2@-1', '1:3=3@-1*'])
  })
})
