import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createStopSequences } from '../../../packages/worker/src/sampling/stop-sequences.ts'
import { randomSeed } from '../../support/random-seed.ts'

const seed = randomSeed('stop-sequences')

/** @returns the index of the piece that stops, -1 for none */
function stopsAt(stops: string[], pieces: string[]): number {
  const watch = createStopSequences(stops)
  return pieces.findIndex((piece) => watch.push(piece))
}

describe('stop sequences', () => {
  it.each<[string, string[], string[], number]>([
    ['at the end of a token', ['END'], ['a ', 'END'], 1],
    ['across tokens', ['END'], ['xE', 'N', 'D', 'x'], 2],
    ['inside a token', ['\n'], ['a', 'b\n\nc'], 1],
    ['across tokens and inside the last', ['}\n'], ['{', '}', '\n\n'], 2],
    ['after a false start', ['aab'], ['a', 'a', 'a', 'b'], 3],
    ['any of several', ['xyz', 'q'], ['x', 'y', 'q'], 2],
    ['in the text of a special token', ['<|im_end|>'], ['a', '<|im_end|>'], 1],
    ['past a token without text', ['ab'], ['a', '', 'b'], 2],
    ['across a whole emoji', ['\u{1f44b}!'], ['\u{1f44b}', '!'], 1],
  ])('are found %s', (_, stops, pieces, at) => {
    expect(stopsAt(stops, pieces)).toBe(at)
  })

  it('are not found where they are not', () => {
    expect(stopsAt(['abc'], ['ab', 'ac', 'b', 'c'])).toBe(-1)
    expect(stopsAt([], ['anything'])).toBe(-1)
  })

  it(`are found with the piece in which the text first holds one (SEED=${seed})`, () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '\n'), minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 3 }), fc.array(text, { maxLength: 20 }), (stops, pieces) => {
        let whole = ''
        const expected = pieces.findIndex((piece) => {
          whole += piece
          return stops.some((stop) => whole.includes(stop))
        })
        expect(stopsAt(stops, pieces)).toBe(expected)
      }),
      { seed, numRuns: 500 },
    )
  })
})
