import { expect, it } from 'vitest'
import { allTokenizers, loadTokenizer } from './fixtures.ts'

const texts = [
  'Hello, wide  world!\n\n  indented\ttext 12345',
  'naïve café — 東京 🙂 e\u0301 a\u0323\u0302 שלום',
  '',
  ' leading and trailing ',
]

it.each(allTokenizers)('%s: tokens stand in order, and together they cover the text', (name) => {
  const tokenizer = loadTokenizer(name)
  for (const text of texts) {
    const tokens = tokenizer.tokenize(text, { addSpecial: false })
    expect(tokens.map(({ id }) => id)).toEqual(tokenizer.encode(text, { addSpecial: false }))
    const covered = new Set<number>()
    let before = 0
    for (const { start, stop } of tokens) {
      expect(start).toBeGreaterThanOrEqual(Math.max(0, before - 3))
      expect(stop).toBeGreaterThanOrEqual(start)
      before = stop
      for (let at = start; at < stop; at++) covered.add(at)
    }
    expect([...covered]).toHaveLength(Array.from(text).length)
  }
})

it('gives places in characters and the spelling of the vocabulary', () => {
  const tokenizer = loadTokenizer('smollm2')
  const text = 'The 𝔘 sea<|im_end|>'
  const tokens = tokenizer.tokenize(text)
  expect(tokens.at(0)).toEqual({ id: tokenizer.encode('The')[0], text: 'The', start: 0, stop: 3 })
  expect(tokens.at(-1)).toEqual({ id: 2, text: '<|im_end|>', start: 9, stop: 19 })
  const characters = Array.from(text)
  expect(tokens.at(-2)).toMatchObject({ text: 'Ġsea' })
  expect(characters.slice(tokens.at(-2)?.start, tokens.at(-2)?.stop).join('')).toBe(' sea')
  // A rare character is several tokens, each of which spans the whole character.
  const parts = tokens.filter(({ start, stop }) => start <= 4 && stop > 4)
  expect(parts.length).toBeGreaterThan(1)
  for (const { stop } of parts) expect(stop).toBe(5)
})

it('puts special tokens around the text at no place of it', () => {
  const [first, ...rest] = loadTokenizer('llama3').tokenize('ab')
  expect(first).toMatchObject({ start: 0, stop: 0 })
  expect(rest.at(-1)).toMatchObject({ stop: 2 })
})
