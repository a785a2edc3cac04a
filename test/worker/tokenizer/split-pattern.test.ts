import { describe, expect, it } from 'vitest'
import { compilePattern, splitByPattern } from '../../../packages/worker/src/tokenizer/split-pattern.ts'
import type { Pattern, SplitBehaviour } from '../../../packages/worker/src/tokenizer/tokenizer-json.ts'

function split(text: string, source: Pattern, behaviour: SplitBehaviour = 'Isolated', invert = false): string[] {
  const pieces: string[] = []
  splitByPattern(text, { pattern: compilePattern('test', source), behaviour, invert }, pieces)
  return pieces
}

describe('a split', () => {
  // The example of Rust's documentation of SplitDelimiterBehavior.
  it.each<[SplitBehaviour, string[]]>([
    ['Removed', ['the', 'final', 'countdown']],
    ['Isolated', ['the', '-', 'final', '-', '-', 'countdown']],
    ['MergedWithPrevious', ['the-', 'final-', '-', 'countdown']],
    ['MergedWithNext', ['the', '-final', '-', '-countdown']],
    ['Contiguous', ['the', '-', 'final', '--', 'countdown']],
  ])('treats matches as %s', (behaviour, pieces) => {
    expect(split('the-final--countdown', { String: '-' }, behaviour)).toEqual(pieces)
  })

  it('takes what lies between matches for the match when inverted', () => {
    expect(split('the-final', { Regex: '[a-z]+' }, 'Removed', true)).toEqual(['the', 'final'])
  })

  it('takes a plain text for what it is', () => {
    expect(split('a.b[c', { String: '.' })).toEqual(['a', '.', 'b[c'])
    expect(split('a.b[c', { String: '[' })).toEqual(['a.b', '[', 'c'])
  })

  it("reads \\s as white space in Oniguruma's sense", () => {
    expect(split('a\u0085b\ufeffc', { Regex: '\\s' })).toEqual(['a', '\u0085', 'b\ufeffc'])
  })

  it('folds the long s and the Kelvin sign where case does not count', () => {
    const contraction = { Regex: "(?i:'s|'k)" }
    expect(split("a'\u017ft", contraction)).toEqual(['a', "'\u017f", 't'])
    expect(split("a'\u212at", contraction)).toEqual(['a', "'\u212a", 't'])
    expect(split("a'St", contraction)).toEqual(['a', "'S", 't'])
  })

  it('gives nothing for nothing, and skips empty matches', () => {
    expect(split('', { Regex: 'x' })).toEqual([])
    expect(split('abc', { Regex: 'x*' })).toEqual(['abc'])
  })
})
