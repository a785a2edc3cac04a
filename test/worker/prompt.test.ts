import { expect, test } from 'vitest'
import { promptOf as promptSlices } from '../../packages/worker/src/prompt.ts'
import { atOnce } from '../../packages/worker/src/tokenizer/slices.ts'
import type { Tokenizer } from '../../packages/worker/src/tokenizer/tokenizer.ts'

const promptOf = (...given: Parameters<typeof promptSlices>) => atOnce(promptSlices(...given))
const text = (of: string) => ({ kind: 'text', text: of }) as const

/** One token a character, its code; at most ten characters a token would be possible. */
function limits() {
  const encoded: string[] = []
  const encodeSlices: Tokenizer['encodeSlices'] = function* (text, { addSpecial = true } = {}) {
    encoded.push(text)
    return Array.from(addSpecial ? text : `#${text}`, (character) => character.charCodeAt(0))
  }
  const applyChatTemplate: Tokenizer['applyChatTemplate'] = (messages) => messages.map(({ content }) => content ?? '').join('+')
  const tokenizer = { encodeSlices, applyChatTemplate, leastTokens: (text: string) => Math.ceil(text.length / 10) }
  return { encoded, limits: { tokenizer, vocabSize: 128, inputTokens: 19, totalTokens: 20 } }
}

test('a prompt far too long is refused before its tokens are made, and the text says that they were not counted', () => {
  const { encoded, limits: given } = limits()
  expect(() => promptOf({ prompt: text('x'.repeat(500)), maxNewTokens: 3 }, given)).toThrow(
    '`inputs` tokens + `max_new_tokens` must be <= 20. Given: at least 50 `inputs` tokens and 3 `max_new_tokens`',
  )
  expect(encoded).toEqual([])
})

test('a prompt that may fit is counted to the token', () => {
  const { limits: given } = limits()
  expect(() => promptOf({ prompt: text('x'.repeat(200)), maxNewTokens: 3 }, given)).toThrow('Given: 200 `inputs` tokens and 3')
})

test('a long prompt of which only the end is wanted is cut, not refused', () => {
  const { limits: given } = limits()
  expect(promptOf({ prompt: text(`${'x'.repeat(500)}yz`), truncate: 2, maxNewTokens: 1 }, given).promptIds).toEqual([121, 122])
})

// The whole of it was once made into tokens, three seconds of everybody's streams for two megabytes.
test('of a prompt that is cut only the end is made into tokens, as much of it as has enough', () => {
  const { encoded, limits: given } = limits()
  const end = Array.from({ length: 5 }, (_, at) => 97 + at)
  const whole = `${'x'.repeat(2_000_000)}abcde`
  expect(promptOf({ prompt: text(whole), truncate: 5, maxNewTokens: 1 }, given).promptIds).toEqual(end)
  expect(encoded.map(({ length }) => length)).toEqual([16_384])
})

test('of a prompt whose end has few tokens more is read until there are enough', () => {
  const { limits: given } = limits()
  const lengths: number[] = []
  const encodeSlices: Tokenizer['encodeSlices'] = function* (part) {
    lengths.push(part.length)
    return Array.from({ length: Math.ceil(part.length / 1000) }, (_, at) => at % 100)
  }
  const tokenizer = { ...given.tokenizer, encodeSlices }
  const prompt = text('x'.repeat(300_000))
  expect(promptOf({ prompt, truncate: 10, maxNewTokens: 1 }, { ...given, tokenizer }).promptIds).toHaveLength(10)
  expect(lengths).toEqual([16_384, 65_536, 262_144])
})

test('a conversation is rendered by the template and gets no special tokens beside', () => {
  const { limits: given } = limits()
  const messages = [
    { role: 'system', content: 'a' },
    { role: 'user', content: 'b' },
  ]
  const prompt = { kind: 'chat', messages, addGenerationPrompt: true } as const
  expect(promptOf({ prompt, maxNewTokens: 1 }, given).promptIds).toEqual(
    Array.from('#a+b', (character) => character.charCodeAt(0)),
  )
})

test('a token that the tokenizer has and the model has not is refused before it can fail the step of others', () => {
  const { limits: given } = limits()
  expect(() => promptOf({ prompt: text('abé'), maxNewTokens: 1 }, given)).toThrow(
    '`inputs` hold token 233 of the tokenizer, but the model has only 128 tokens',
  )
  expect(promptOf({ prompt: text('é-abc'), truncate: 3, maxNewTokens: 1 }, given).promptIds).toEqual([97, 98, 99])
})
