import { describe, expect, it } from 'vitest'
import { createAddedTokenSplitter } from '../../../packages/worker/src/tokenizer/added-tokens.ts'
import type { AddedToken } from '../../../packages/worker/src/tokenizer/tokenizer-json.ts'

function token(id: number, content: string, options: Partial<AddedToken> = {}): AddedToken {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true, ...options }
}

function split(text: string, ...tokens: AddedToken[]) {
  return createAddedTokenSplitter(tokens, (content) => content).split(text)
}

describe('added tokens', () => {
  it('are cut out of the text', () => {
    expect(split('a<x>b<x>', token(7, '<x>'))).toEqual(['a', 7, 'b', 7])
    expect(split('plain', token(7, '<x>'))).toEqual(['plain'])
    expect(split('')).toEqual([])
  })

  it('are found leftmost first, the longest of those that begin there', () => {
    expect(split('<<x>>', token(1, '<x>'), token(2, '<<x'), token(3, '<'))).toEqual([2, '>>'])
    expect(split('   ', token(1, ' '), token(2, '  '))).toEqual([2, 1])
  })

  it('take white space with them where they say so', () => {
    expect(split('a \u00a0\n<m> b', token(1, '<m>', { lstrip: true }))).toEqual(['a', 1, ' b'])
    expect(split('a <m> \u3000b', token(1, '<m>', { rstrip: true }))).toEqual(['a ', 1, 'b'])
    expect(split('<m> <m>', token(1, '<m>', { lstrip: true, rstrip: true }))).toEqual([1, 1])
  })

  it('that are whole words are not found inside one', () => {
    const word = token(1, 'tag', { single_word: true })
    expect(split('tag tags a-tag \u{1d400}tag', word)).toEqual([1, ' tags a-', 1, ' \u{1d400}tag'])
  })

  it('are looked for by the spelling that is given', () => {
    const splitter = createAddedTokenSplitter([token(4, 'x')], (content) => `_${content}`)
    expect(splitter.split('x _x')).toEqual(['x ', 4])
  })
})
