import { expect, it } from 'vitest'
import { atOnce, inTurns } from '../../../packages/worker/src/tokenizer/slices.ts'
import { allTokenizers, loadTokenizer, readFixture } from './fixtures.ts'

const texts = [
  'Hello, wide  world!\n\n  indented\ttext 12345',
  'naïve café — 東京 🙂 e\u0301 a\u0323\u0302 שלום',
  '',
  ' leading and trailing ',
]

it.each(allTokenizers)('%s: tokens stand in order, and together they cover the text', (name) => {
  const tokenizer = loadTokenizer(name)
  for (const text of texts) {
    const tokens = atOnce(tokenizer.tokenizeSlices(text, { addSpecial: false }))
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
  const tokens = atOnce(tokenizer.tokenizeSlices(text))
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
  const [first, ...rest] = atOnce(loadTokenizer('llama3').tokenizeSlices('ab'))
  expect(first).toMatchObject({ start: 0, stop: 0 })
  expect(rest.at(-1)).toMatchObject({ stop: 2 })
})

it('turns a long text into the same tokens in many short slices, with turns of the event loop between', async () => {
  const tokenizer = loadTokenizer('smollm2')
  const text = readFixture('mixed-text.txt').toString('utf8')
  const whole = atOnce(tokenizer.tokenizeSlices(text))
  let slices = 0
  for (const work = tokenizer.encodeSlices(text); work.next().done !== true; ) slices += 1
  expect(slices).toBeGreaterThan(text.length / 8192)
  let turns = 0
  let isDone = false
  const counting = (async () => {
    for (; !isDone; turns++) await new Promise(setImmediate)
  })()
  expect(await inTurns(tokenizer.tokenizeSlices(text))).toEqual(whole)
  isDone = true
  await counting
  expect(turns).toBeGreaterThan(slices)
  const left = AbortSignal.abort(new Error('left'))
  await expect(inTurns(tokenizer.encodeSlices(text), left)).rejects.toThrow('left')
})
