import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type DraftOffer, draftLengths } from '../../../packages/worker/src/step/draft-lengths.ts'
import { type StepPace, stepMs } from '../../../packages/worker/src/step/step-times.ts'
import { randomSeed } from '../../support/random-seed.ts'

const seed = randomSeed('draft lengths')
/** A first row costs 4 ms, each further one 0.8: as weights that are read once for all rows. */
const pace: StepPace = {
  answers: [
    { rows: 1, ms: 4 },
    { rows: 101, ms: 84 },
  ],
  prompts: [{ rows: 100, ms: 50 }],
  typicalMs: 4,
}
const measured = { rows: 32, length: 'measured', isTogether: true } as const
const alone = { answers: 1, prompts: 0 }

function rate(offers: readonly DraftOffer[], lengths: readonly number[], answers: number, times: StepPace): number {
  let tokens = answers
  for (const [index, { chance }] of offers.entries())
    for (let length = 1; length <= (lengths[index] ?? 0); length++) tokens += chance ** length
  const rows = answers + lengths.reduce((sum, length) => sum + length, 0)
  return tokens / stepMs(times, { answers: rows, prompts: 0 })
}

describe('the lengths of drafts', () => {
  it.each([
    ['whole, where it is nearly certain', 0.98, 8, [8]],
    ['in part, where it is likely', 0.6, 8, [2]],
    ['not at all, where it hardly ever comes true', 0.1, 8, [0]],
  ])('take a draft %s', (_title, chance, tokens, expected) => {
    expect(draftLengths([{ tokens, chance }], alone, measured, pace)).toEqual(expected)
  })

  it('are 0 where rows cost as much as steps', () => {
    const dear: StepPace = {
      answers: [
        { rows: 1, ms: 4 },
        { rows: 9, ms: 36 },
      ],
      prompts: [],
      typicalMs: 4,
    }
    expect(draftLengths([{ tokens: 8, chance: 0.95 }], alone, measured, dear)).toEqual([0])
  })

  it('are longer beside a prompt, whose time is spent anyway', () => {
    const offer = [{ tokens: 8, chance: 0.6 }]
    const [without] = draftLengths(offer, alone, measured, pace)
    const [beside] = draftLengths(offer, { answers: 1, prompts: 100 }, measured, pace)
    expect(beside).toBeGreaterThan(without ?? 0)
  })

  it('are 0 before anything was measured', () => {
    expect(draftLengths([{ tokens: 8, chance: 0.9 }], alone, measured, undefined)).toEqual([0])
  })

  it('are 0 beside other answers where the engine runs each draft by itself, unless they are wanted at all costs', () => {
    const offers = [{ tokens: 3, chance: 0.9 }]
    const apart = { ...measured, isTogether: false }
    expect(draftLengths(offers, { answers: 2, prompts: 0 }, apart, pace)).toEqual([0])
    expect(draftLengths(offers, alone, apart, pace)).toEqual([3])
    expect(draftLengths(offers, { answers: 2, prompts: 0 }, { ...apart, length: 'all' }, pace)).toEqual([3])
  })

  it('do not depend on times where all drafts are taken, and keep to the rows', () => {
    const offers = [
      { tokens: 3, chance: 0.2 },
      { tokens: 8, chance: 0.9 },
    ]
    const all = { rows: 32, length: 'all', isTogether: true } as const
    expect(draftLengths(offers, { answers: 2, prompts: 0 }, all, undefined)).toEqual([3, 8])
    expect(draftLengths(offers, { answers: 2, prompts: 0 }, all, pace)).toEqual([3, 8])
    expect(draftLengths(offers, { answers: 2, prompts: 0 }, { ...all, rows: 4 }, pace)).toEqual([0, 4])
  })

  it(`give the most tokens for each millisecond that any lengths give, or none for less than 5 % more (SEED=${seed})`, () => {
    const offer = fc.record({ tokens: fc.integer({ min: 1, max: 3 }), chance: fc.double({ min: 0.01, max: 0.98, noNaN: true }) })
    const costs = fc.array(fc.double({ min: 0.01, max: 3, noNaN: true }), { minLength: 9, maxLength: 9 })
    fc.assert(
      fc.property(fc.array(offer, { minLength: 1, maxLength: 3 }), costs, fc.nat(2), (offers, steps, others) => {
        const msOf = (rows: number) => steps.slice(0, rows).reduce((sum, ms) => sum + ms, 2 + Math.max(0, rows - steps.length))
        const times: StepPace = {
          answers: Array.from({ length: 16 }, (_, index) => ({ rows: index + 1, ms: msOf(index + 1) })),
          prompts: [],
          typicalMs: 3,
        }
        const answers = offers.length + others
        const chosen = draftLengths(offers, { answers, prompts: 0 }, measured, times)
        const best = Math.max(...allLengths(offers).map((lengths) => rate(offers, lengths, answers, times)))
        const plain = answers / stepMs(times, { answers, prompts: 0 })
        if (best > plain * 1.05) expect(rate(offers, chosen, answers, times)).toBeCloseTo(best, 9)
        else expect(chosen).toEqual(offers.map(() => 0))
      }),
      { seed, numRuns: 200 },
    )
  })
})

function allLengths(offers: readonly DraftOffer[]): number[][] {
  return offers.reduce<number[][]>(
    (lists, { tokens }) => lists.flatMap((list) => Array.from({ length: tokens + 1 }, (_, length) => [...list, length])),
    [[]],
  )
}
