import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { longestMatch, TokenLookup } from '../../../packages/worker/src/step/token-lookup.ts'
import { randomSeed } from '../../support/random-seed.ts'

const seed = randomSeed('token lookup')

/** The same by trying every place. */
function searched(tokens: readonly number[], count: number) {
  for (let match = Math.min(longestMatch, tokens.length - 1); match >= 1; match--) {
    for (let at = tokens.length - 1; at >= match; at--) {
      if (tokens.slice(at - match, at).some((token, index) => token !== tokens[tokens.length - match + index])) continue
      const found = [...tokens]
      while (found.length < tokens.length + count) found.push(found[found.length - (tokens.length - at)] ?? Number.NaN)
      return { tokens: found.slice(tokens.length), match }
    }
  }
  return undefined
}

describe('the lookup of tokens', () => {
  it('finds what followed the longest run that stood before, the last time it did', () => {
    expect(new TokenLookup(64).find([1, 2, 3, 9, 1, 2, 3, 8, 5, 1, 2, 3], 2)).toEqual({ tokens: [8, 5], match: 3 })
  })

  it('goes on with the period of a text that repeats itself', () => {
    expect(new TokenLookup(64).find([7, 1, 2, 1, 2], 5)).toEqual({ tokens: [1, 2, 1, 2, 1], match: 2 })
    expect(new TokenLookup(64).find([4, 4], 3)).toEqual({ tokens: [4, 4, 4], match: 1 })
  })

  it('finds nothing where the newest token is new', () => {
    expect(new TokenLookup(64).find([1, 2, 1, 3], 4)).toBeUndefined()
    expect(new TokenLookup(64).find([1], 4)).toBeUndefined()
  })

  it(`finds at every length of a growing text what a search of all of it finds (SEED=${seed})`, () => {
    const texts = fc.array(fc.nat(6), { minLength: 1, maxLength: 80 })
    fc.assert(
      fc.property(texts, fc.integer({ min: 1, max: 8 }), (text, count) => {
        // Room enough that no two runs of so few tokens push each other out.
        const lookup = new TokenLookup(20_000)
        for (let length = 1; length <= text.length; length++) {
          const tokens = text.slice(0, length)
          expect(lookup.find(tokens, count)).toEqual(searched(tokens, count))
        }
      }),
      { seed, numRuns: 60 },
    )
  })

  it(`proposes nothing that does not stand in the text, however full its tables are (SEED=${seed})`, () => {
    const texts = fc.array(fc.nat(200), { minLength: 400, maxLength: 800 })
    fc.assert(
      fc.property(texts, (text) => {
        const found = new TokenLookup(1).find(text, 1)
        if (found === undefined) return
        const run = [...text.slice(text.length - found.match), ...found.tokens].join(',')
        expect(`,${text.join(',')},`).toContain(`,${run},`)
      }),
      { seed, numRuns: 50 },
    )
  })
})
