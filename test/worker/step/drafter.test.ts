import { describe, expect, it } from 'vitest'
import { Drafter } from '../../../packages/worker/src/step/drafter.ts'

const drafter = (eos: readonly number[] = []) => new Drafter({ tokensAtMost: 256, draftTokens: 4, eosTokenIds: new Set(eos) })
const circle = [1, 2, 3, 4, 5, 6, 1, 2, 3]

describe('a drafter', () => {
  it('guesses what followed before, at most as many tokens as a draft has', () => {
    expect(drafter().guess(circle, 100)).toMatchObject({ tokens: [4, 5, 6, 1] })
  })

  it('guesses one token less than may be generated, because nothing comes after the last', () => {
    expect(drafter().guess(circle, 3)).toMatchObject({ tokens: [4, 5] })
    expect(drafter().guess(circle, 1)).toBeUndefined()
  })

  it('guesses nothing from an end of the text on', () => {
    expect(drafter([6]).guess(circle, 100)).toMatchObject({ tokens: [4, 5] })
    expect(drafter([4]).guess(circle, 100)).toBeUndefined()
  })

  it('trusts longer matches more to begin with', () => {
    const long = drafter().guess([1, 2, 3, 4, 9, 1, 2, 3, 4], 100)?.chance ?? 0
    const short = drafter().guess([7, 4, 9, 8, 4], 100)?.chance ?? 1
    expect(long).toBeGreaterThan(short)
  })

  it('learns from every token that comes, whether the guess was computed or not, and never becomes certain', () => {
    const learner = drafter()
    const tokens = [...circle]
    const before = learner.guess(tokens, 100)?.chance ?? 1
    for (let token = 4; tokens.length < 200; token = (token % 6) + 1) {
      learner.guess(tokens, 100)
      learner.came(token)
      tokens.push(token)
    }
    const after = learner.guess(tokens, 100)?.chance ?? 0
    expect(after).toBeGreaterThan(before)
    expect(after).toBeLessThan(1)
    for (let index = 0; index < 40; index++) {
      learner.guess(tokens, 100)
      learner.came(99)
    }
    expect(learner.guess(tokens, 100)?.chance).toBeLessThan(0.1)
  })

  it('counts of a guess what came up to its first error', () => {
    const learner = drafter()
    const first = learner.guess(circle, 100)?.chance ?? 0
    learner.came(4)
    learner.came(0)
    const second = learner.guess([...circle], 100)?.chance ?? 0
    // Nothing was expected any more after the error.
    learner.guess(circle, 100)
    learner.came(0)
    for (let index = 0; index < 20; index++) learner.came(0)
    const third = learner.guess([...circle], 100)?.chance ?? 0
    expect(second).toBeCloseTo((first + 0.15 * (1 - first)) * 0.85, 10)
    expect(third).toBeCloseTo(second * 0.85, 10)
  })
})
