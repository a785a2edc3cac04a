import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { leastPromptRows, promptRows } from '../../../packages/worker/src/step/prompt-rows.ts'
import { promptMs, type StepPace, stepMs } from '../../../packages/worker/src/step/step-times.ts'
import { randomSeed } from '../../support/random-seed.ts'

const seed = randomSeed('prompt rows')
/** 4 ms for one row and 34 for 31; prompts half a millisecond a row, and 4 ms more to begin with. */
const pace: StepPace = {
  answers: [
    { rows: 1, ms: 4 },
    { rows: 31, ms: 34 },
  ],
  prompts: [
    { rows: 1, ms: 4.5 },
    { rows: 1001, ms: 504.5 },
  ],
  typicalMs: 4,
}

describe('the rows of prompts in a step', () => {
  it.each([
    ['all of the chunk while nobody decodes', pace, 0, 512, 512],
    ['all of the chunk before anything was measured', undefined, 8, 512, 512],
    ['all of the chunk before a prompt was measured', { ...pace, prompts: [] }, 8, 512, 512],
    ['what 0.8 times the time of the answers has room for', pace, 31, 512, 46],
    ['the least that prompts go on by, beside a single fast stream', pace, 1, 512, leastPromptRows],
    ['what the typical pace has room for, where few decode just now', { ...pace, typicalMs: 30 }, 2, 512, 90],
    ['a chunk that is smaller than the least', pace, 1, 2, 2],
    ['a chunk that is smaller than what fits', pace, 31, 40, 40],
  ])('are %s', (_title, times, answers, chunk, expected) => {
    expect(promptRows(times, { decoding: answers, prompting: 1 }, chunk)).toBe(expected)
  })

  it('are more where many wait for their prompts and few decode', () => {
    const rows = [1, 2, 4, 8].map((prompting) => promptRows(pace, { decoding: 8, prompting }, 512))
    expect(rows).toEqual([9, 14, 58, 146].map((count) => expect.closeTo(count, -1)))
    expect(promptRows(pace, { decoding: 1, prompting: 15 }, 512)).toBeGreaterThan(400)
    // One prompt gets no more beside fewer streams than the pace allows.
    expect(promptRows(pace, { decoding: 2, prompting: 1 }, 512)).toBe(leastPromptRows)
  })

  it(`keep the step within its share, are never less than the least, and as many as fit (SEED=${seed})`, () => {
    const ascending = fc
      .array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.double({ min: 0.1, max: 20, noNaN: true })), {
        minLength: 1,
        maxLength: 6,
      })
      .map((steps) =>
        steps.map((_, index) =>
          steps.slice(0, index + 1).reduce((sum, [rows, ms]) => ({ rows: sum.rows + rows, ms: sum.ms + ms }), { rows: 0, ms: 0 }),
        ),
      )
    const typicalMs = fc.double({ min: 0, max: 60, noNaN: true })
    const paces = fc.record({ answers: ascending, prompts: ascending, typicalMs })
    fc.assert(
      fc.property(
        paces,
        fc.integer({ min: 1, max: 64 }),
        fc.nat(40),
        fc.integer({ min: 1, max: 700 }),
        (times, answers, waiting, chunk) => {
          const rows = promptRows(times, { decoding: answers, prompting: waiting }, chunk)
          const least = Math.min(leastPromptRows, chunk)
          expect(rows).toBeGreaterThanOrEqual(least)
          expect(rows).toBeLessThanOrEqual(chunk)
          const answersMs = stepMs(times, { answers, prompts: 0 })
          const slower = 1 + Math.max(0.8, (8 * (waiting - 1)) / answers)
          const allowedMs = slower * Math.max(answersMs, times.typicalMs) - answersMs
          if (rows > least) expect(promptMs(times, rows)).toBeLessThanOrEqual(allowedMs)
          if (rows < chunk) expect(promptMs(times, rows + 1)).toBeGreaterThan(allowedMs)
        },
      ),
      { seed, numRuns: 300 },
    )
  })
})
