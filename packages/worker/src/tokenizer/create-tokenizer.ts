import { z } from 'zod'
import { createAddedTokenSplitter } from './added-tokens.ts'
import { createBytePairEncoder } from './byte-pair-encoder.ts'
import { createChatTemplate } from './chat-template.ts'
import { toTokenizerJson } from './gguf-tokenizer.ts'
import { createLeastTokens } from './least-tokens.ts'
import { createNormalizer } from './normalizer.ts'
import { readSurroundings } from './post-processor.ts'
import { createPreTokenizer } from './pre-tokenizer.ts'
import { atOnce, SLICE_LENGTH, type Slices } from './slices.ts'
import { textTokens } from './text-tokens.ts'
import { createTokenBytes } from './token-bytes.ts'
import { createTokenStream, decodeTokens } from './token-stream.ts'
import type { Tokenizer } from './tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'
import { parseTokenizerJson, type TokenizerDescription } from './tokenizer-json.ts'

export interface TokenizerDeps {
  /** Wall clock in milliseconds since 1970, for chat templates that state today's date. */
  wallClockMs(): number
}

/**
 * The model's own tokenizer: the very ids and text of Rust's `tokenizers` (compared in `test/worker/tokenizer`), from
 * `tokenizer.json` or from a GGUF file's metadata.
 * @throws ServingError `invalid_request` naming what is damaged or not supported
 * @example createTokenizer(files, { wallClockMs: () => Date.now() }).encode('Hello')
 */
export function createTokenizer(files: TokenizerFiles, deps: TokenizerDeps): Tokenizer {
  const description = parseTokenizerJson(files.kind === 'json' ? files.tokenizer : toTokenizerJson(files))
  const tokens = createTokenBytes(description)
  const special = new Set(description.addedTokens.filter((token) => token.special).map(({ id }) => id))
  const specialTokens = files.kind === 'json' ? namedTokens(files.config) : namedGgufTokens(files)
  const template = createChatTemplate(files.chatTemplate, { ...deps, specialTokens })
  const encodeSlices = createEncode(description)
  const { before, after } = readSurroundings(description.postProcessor)
  const around = (ids: readonly number[]) => atOnce(textTokens('', ids, tokens))
  return {
    vocabSize: tokens.vocabSize,
    eosTokenIds: eosTokenIds(files, specialTokens, description),
    specialTokens,
    encode: (text, options) => atOnce(encodeSlices(text, options)),
    encodeSlices,
    *tokenizeSlices(text, { addSpecial = true } = {}) {
      const inside = yield* textTokens(text, yield* encodeSlices(text, { addSpecial: false }), tokens)
      return addSpecial ? [...around(before), ...inside, ...around(after)] : inside
    },
    leastTokens: createLeastTokens(description),
    decode: (ids, { keepSpecial = false } = {}) => decodeTokens(keepSpecial ? ids : ids.filter((id) => !special.has(id)), tokens),
    isSpecial: (id) => special.has(id),
    tokenBytes: (id) => tokens.of(id),
    stream: () => createTokenStream(tokens),
    applyChatTemplate: (messages, options = {}) => template.render(messages, options),
  }
}

/** Added tokens as they stand, then the normaliser, then added tokens that it may have brought out, then words, then BPE. */
function createEncode(description: TokenizerDescription): Tokenizer['encodeSlices'] {
  const { addedTokens } = description
  const normalize = createNormalizer(description.normalizer)
  const asWritten = createAddedTokenSplitter(
    addedTokens.filter((token) => !token.normalized),
    (content) => content,
  )
  const asNormalized = createAddedTokenSplitter(
    addedTokens.filter((token) => token.normalized),
    normalize,
  )
  const preTokenizer = createPreTokenizer(description.preTokenizer)
  const encoder = createBytePairEncoder(description.model, preTokenizer.byteLevel ? 'bytes' : 'characters')
  const { before, after } = readSurroundings(description.postProcessor)

  function* encodePlain(text: string, first: boolean, into: number[]): Slices<void> {
    let length = 0
    for (const [index, segment] of asNormalized.split(normalize(text)).entries()) {
      if (typeof segment === 'number') into.push(segment)
      else {
        for (const piece of preTokenizer.split(segment, first && index === 0)) {
          encoder.encode(piece, into)
          length += piece.length
          if (length < SLICE_LENGTH) continue
          length = 0
          yield
        }
      }
    }
  }
  return function* (text, { addSpecial = true } = {}) {
    const ids: number[] = addSpecial ? [...before] : []
    // A lone surrogate has no UTF-8 form.
    for (const [index, segment] of asWritten.split(text.toWellFormed()).entries()) {
      if (typeof segment === 'number') ids.push(segment)
      else yield* encodePlain(segment, index === 0, ids)
    }
    if (addSpecial) ids.push(...after)
    return ids
  }
}

const tokenNames = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'] as const
const namedToken = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)])

/** `bos_token` and its like of `tokenizer_config.json`, each a text or an object with its text. */
function namedTokens(config: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    tokenNames.flatMap((name) => {
      const token = namedToken.safeParse(config[name])
      return token.success ? [[name, token.data]] : []
    }),
  )
}

function namedGgufTokens(files: Extract<TokenizerFiles, { kind: 'gguf' }>): Readonly<Record<string, string>> {
  const ids = { bos_token: files.bosTokenId, eos_token: files.eosTokenId }
  return Object.fromEntries(
    Object.entries(ids).flatMap(([name, id]) => {
      const token = id === undefined ? undefined : files.tokens[id]
      return token === undefined ? [] : [[name, token]]
    }),
  )
}

function eosTokenIds(
  files: TokenizerFiles,
  { eos_token: eos }: Readonly<Record<string, string>>,
  { addedTokens, model }: TokenizerDescription,
): readonly number[] {
  if (files.kind === 'gguf') return files.eosTokenId === undefined ? [] : [files.eosTokenId]
  if (eos === undefined) return []
  const id = addedTokens.find(({ content }) => content === eos)?.id ?? model.vocabulary.get(eos)
  return id === undefined ? [] : [id]
}
