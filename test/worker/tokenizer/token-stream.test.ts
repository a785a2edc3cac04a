import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomSeed } from '../../support/random-seed.ts'
import { allTokenizers, loadTokenizer, readFixture } from './fixtures.ts'

const seed = randomSeed('token-stream')
const loneSurrogate = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/

describe.each(allTokenizers)('a stream of %s', (name) => {
  const tokenizer = loadTokenizer(name)
  const anyIds = fc.array(
    fc.oneof(fc.nat({ max: Math.min(320, tokenizer.vocabSize - 1) }), fc.nat({ max: tokenizer.vocabSize + 3 })),
    { maxLength: 60 },
  )

  it(`delivers in pieces what decode gives at once, special tokens included (SEED=${seed})`, () => {
    fc.assert(
      fc.property(anyIds, (ids) => {
        const stream = tokenizer.stream()
        const streamed = ids.map((id) => stream.push(id)).join('') + stream.end()
        expect(streamed).toBe(tokenizer.decode(ids, { keepSpecial: true }))
      }),
      { seed, numRuns: 300 },
    )
  })

  it(`delivers what decode gives when nothing is special (SEED=${seed})`, () => {
    fc.assert(
      fc.property(anyIds, (all) => {
        const ids = all.filter((id) => !tokenizer.isSpecial(id))
        const stream = tokenizer.stream()
        expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe(tokenizer.decode(ids))
      }),
      { seed, numRuns: 200 },
    )
  })

  it('never splits a character of a real text', () => {
    const text = readFixture('mixed-text.txt').toString('utf8').slice(0, 20_000)
    const stream = tokenizer.stream()
    const pieces = tokenizer.encode(text).map((id) => stream.push(id))
    pieces.push(stream.end())
    for (const piece of pieces) expect(piece).not.toMatch(loneSurrogate)
    // The text itself holds a few.
    const replaced = (pieces.join('').match(/\ufffd/g) ?? []).length
    expect(replaced).toBe((tokenizer.decode(tokenizer.encode(text), { keepSpecial: true }).match(/\ufffd/g) ?? []).length)
  })
})

describe('a stream of the default model', () => {
  const tokenizer = loadTokenizer('smollm2')

  it.each(['\u{1f44b}\u{1f3ff}', '\u{1f468}\u200d\u{1f469}', '\u6e2f', '\u092c\u0902', 'e\u0301'])(
    'holds back %s until each character is whole',
    (text) => {
      const stream = tokenizer.stream()
      let seen = ''
      for (const id of tokenizer.encode(text)) {
        seen += stream.push(id)
        expect(text.startsWith(seen)).toBe(true)
      }
      expect(seen).toBe(text)
      expect(stream.end()).toBe('')
    },
  )

  it('gives U+FFFD for a character that never became whole', () => {
    const ids = tokenizer.encode('\u{1f44b}')
    const stream = tokenizer.stream()
    expect(stream.push(ids[0] ?? 0)).toBe('')
    expect(stream.end()).toBe('\ufffd')
  })

  it('delivers the text of a special token, which decode leaves out', () => {
    const stream = tokenizer.stream()
    expect([19_556, 2].map((id) => stream.push(id))).toEqual(['Hello', '<|im_end|>'])
    expect(tokenizer.decode([19_556, 2])).toBe('Hello')
  })

  it('keeps its own place while others stream', () => {
    const ids = tokenizer.encode('\u{1f44b}')
    const one = tokenizer.stream()
    const other = tokenizer.stream()
    let both = ''
    for (const id of ids) both += one.push(id) + other.push(id)
    expect(both).toBe('\u{1f44b}\u{1f44b}')
  })
})
