import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { promptMs, StepTimes, stepMs } from '../../../packages/worker/src/step/step-times.ts'
import { randomSeed } from '../../support/random-seed.ts'

const seed = randomSeed('step times')
const answers = (count: number) => ({ answers: count, prompts: 0 })
const paceOf = (times: StepTimes) => {
  const pace = times.pace()
  if (pace === undefined) throw new Error('nothing was measured')
  return pace
}

describe('step times', () => {
  it('know nothing before a step of answers alone, nor from a clock that stands still', () => {
    const times = new StepTimes()
    expect(times.pace()).toBeUndefined()
    times.record({ answers: 0, prompts: 64 }, 40)
    times.record(answers(1), 0)
    times.record({ answers: 1, prompts: 8 }, 20)
    expect(times.pace()).toBeUndefined()
  })

  it('answer what was measured, and lie on the line between two measured numbers of rows', () => {
    const times = new StepTimes()
    times.record(answers(1), 4)
    times.record(answers(5), 8)
    expect([1, 3, 5].map((rows) => stepMs(paceOf(times), answers(rows)))).toEqual([4, 6, 8])
  })

  it('guess beyond what was measured that rows cost something, and less than the first', () => {
    const times = new StepTimes()
    times.record(answers(4), 8)
    const [one, four, sixteen] = [1, 4, 16].map((rows) => stepMs(paceOf(times), answers(rows)))
    expect(one).toBeLessThan(8)
    expect(four).toBe(8)
    expect(sixteen).toBeGreaterThan(8)
    expect(sixteen).toBeLessThan(32)
  })

  it('tell what prompts add apart from the answers beside them', () => {
    const times = new StepTimes()
    times.record(answers(4), 8)
    times.record({ answers: 4, prompts: 32 }, 28)
    times.record({ answers: 0, prompts: 64 }, 40)
    const pace = paceOf(times)
    expect(promptMs(pace, 32)).toBe(20)
    expect(promptMs(pace, 48)).toBe(30)
    expect(stepMs(pace, { answers: 4, prompts: 64 })).toBe(48)
  })

  it('are not moved by single steps that took far too long', () => {
    const times = new StepTimes()
    for (let step = 0; step < 40; step++) times.record(answers(2), step % 4 === 0 ? 400 : 5)
    expect(stepMs(paceOf(times), answers(2))).toBe(5)
    expect(paceOf(times).typicalMs).toBe(5)
  })

  it('follow a machine that became slower, within a few steps of each size', () => {
    const times = new StepTimes()
    for (let step = 0; step < 100; step++) times.record(answers(2), 5)
    for (let step = 0; step < 5; step++) times.record(answers(2), 12)
    expect(stepMs(paceOf(times), answers(2))).toBe(12)
  })

  it('forget what was measured thousands of steps ago', () => {
    const times = new StepTimes()
    times.record(answers(8), 1_000)
    for (let step = 0; step < 2_100; step++) times.record(answers(1), 4)
    expect(stepMs(paceOf(times), answers(8))).toBeLessThan(20)
  })

  it('take as typical the pace of most tokens, not of most steps', () => {
    const times = new StepTimes()
    for (let step = 0; step < 160; step++) times.record(answers(step % 4 === 0 ? 16 : 1), step % 4 === 0 ? 18 : 4)
    expect(paceOf(times).typicalMs).toBe(18)
  })

  it(`hold few numbers, whatever steps come, and give times that are finite and not negative (SEED=${seed})`, () => {
    const steps = fc.array(fc.tuple(fc.nat(2_000), fc.nat(8_192), fc.double({ min: 0, max: 1e6, noNaN: true })), {
      maxLength: 60,
    })
    fc.assert(
      fc.property(steps, fc.nat(3_000), fc.nat(9_000), (list, a, p) => {
        const times = new StepTimes()
        for (const [of, prompts, ms] of list) if (of + prompts > 0) times.record({ answers: of, prompts }, ms)
        const pace = times.pace()
        if (pace === undefined) return
        expect(pace.answers.length + pace.prompts.length).toBeLessThanOrEqual(100)
        const expected = stepMs(pace, { answers: a, prompts: p })
        expect(expected >= 0 && Number.isFinite(expected)).toBe(true)
      }),
      { seed, numRuns: 100 },
    )
  })
})
