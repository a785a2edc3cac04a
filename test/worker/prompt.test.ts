import { expect, test } from 'vitest'
import { promptOf } from '../../packages/worker/src/prompt.ts'
import type { Tokenizer } from '../../packages/worker/src/tokenizer/tokenizer.ts'

const text = (of: string) => ({ kind: 'text', text: of }) as const

/** One token a character, its code; at most ten characters a token would be possible. */
function limits() {
  const encoded: string[] = []
  const encode: Tokenizer['encode'] = (text, { addSpecial = true } = {}) => {
    encoded.push(text)
    return Array.from(addSpecial ? text : `#${text}`, (character) => character.charCodeAt(0))
  }
  const applyChatTemplate: Tokenizer['applyChatTemplate'] = (messages) => messages.map(({ content }) => content ?? '').join('+')
  const tokenizer = { encode, applyChatTemplate, leastTokens: (text: string) => Math.ceil(text.length / 10) }
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
