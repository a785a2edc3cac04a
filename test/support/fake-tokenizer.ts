import { SLICE_LENGTH } from '../../packages/worker/src/tokenizer/slices.ts'
import type { Tokenizer, TokenStream } from '../../packages/worker/src/tokenizer/tokenizer.ts'
import { fakeEosId, fakeVocabSize } from './fake-engine.ts'

/** Token 0 ends a text; the others are these characters, in order from 1. */
const characters = ' abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'

/** One character a token. `pad` makes the text of every generated token long, for tests of slow readers. */
export function fakeTokenizer(options: { readonly pad?: string } = {}): Tokenizer {
  const pad = options.pad ?? ''
  const textOf = (id: number, keepSpecial: boolean) =>
    id === fakeEosId ? (keepSpecial ? '<end>' : '') : `${characters[id - 1] ?? '?'}${pad}`
  const encode = (text: string) => Array.from(text, (character) => Math.max(0, characters.indexOf(character)) + 1)
  return {
    vocabSize: fakeVocabSize,
    eosTokenIds: [fakeEosId],
    specialTokens: {},
    encode,
    *encodeSlices(text) {
      if (text.length > SLICE_LENGTH) yield
      return encode(text)
    },
    leastTokens: (text) => Math.ceil(Array.from(text).length / 10),
    decode: (ids, { keepSpecial = false } = {}) => ids.map((id) => textOf(id, keepSpecial)).join(''),
    isSpecial: (id) => id === fakeEosId,
    tokenBytes: (id) => Buffer.from(textOf(id, true)),
    stream: (): TokenStream => ({ push: (id) => textOf(id, true), end: () => '' }),
    *tokenizeSlices(text) {
      return Array.from(text, (character, at) => ({
        id: characters.indexOf(character) + 1,
        text: character,
        start: at,
        stop: at + 1,
      }))
    },
    applyChatTemplate: (messages) => messages.map(({ content }) => content ?? '').join(' '),
  }
}
