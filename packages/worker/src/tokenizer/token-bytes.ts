import { ServingError } from '@quiver/protocol'
import { characterBytes } from './byte-alphabet.ts'
import type { AddedToken, DecoderStep, TokenizerDescription } from './tokenizer-json.ts'

/** The bytes that a token stands for in the output; text is these bytes, read as UTF-8. */
export interface TokenBytes {
  /** One more than the highest id. */
  readonly vocabSize: number
  /** @returns the bytes of one token, not to be written to; none for an id that is no token */
  of(id: number): Uint8Array
  /** The vocabulary's own spelling of a token, such as `Ġthe`; empty for an id that is no token. */
  spelling(id: number): string
}

const NOTHING = new Uint8Array()
const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/

/**
 * Every supported decoder maps token by token to bytes, which is what lets output be decoded as it comes. The step `Strip`,
 * which takes the first space off a whole text, is left out on purpose: what is decoded here continues a prompt, and LoRAX
 * and TGI keep that space too.
 * @throws ServingError `invalid_request` when the decoder works otherwise
 */
export function createTokenBytes(description: TokenizerDescription): TokenBytes {
  const spellings = spellingsById(description)
  const toBytes = chooseDecoder(description.decoder)
  const known = new Array<Uint8Array | undefined>(spellings.length)
  return {
    vocabSize: spellings.length,
    spelling: (id) => spellings[id] ?? '',
    of: (id) => {
      const found = known[id]
      if (found !== undefined) return found
      const spelling = spellings[id]
      if (spelling === undefined) return NOTHING
      const bytes = toBytes(spelling)
      known[id] = bytes
      return bytes
    },
  }
}

function spellingsById({ model, addedTokens }: TokenizerDescription): readonly (string | undefined)[] {
  const highest = addedTokens.reduce((most, { id }) => Math.max(most, id), model.vocabulary.size - 1)
  const spellings: (string | undefined)[] = new Array(highest + 1)
  for (const [token, id] of model.vocabulary) spellings[id] = token
  for (const { id, content } of addedTokens as readonly AddedToken[]) spellings[id] = content
  return spellings
}

function chooseDecoder(steps: readonly DecoderStep[]): (spelling: string) => Uint8Array {
  const [first] = steps
  if (first?.type === 'ByteLevel' && steps.length === 1) return bytesOfCharacters
  const order = ['Replace', 'ByteFallback', 'Fuse', 'Strip']
  const places = steps.map(({ type }) => order.indexOf(type))
  if (steps.length === 0 || places.some((place, at) => place === -1 || place < (places[at - 1] ?? 0))) {
    const names = steps.map(({ type }) => type).join(', ')
    throw new ServingError(
      'invalid_request',
      `this tokenizer is not supported: decoder: [${names}] is neither ByteLevel nor Replace, ByteFallback, Fuse, Strip`,
    )
  }
  const replacements = steps.filter((step) => step.type === 'Replace')
  const hasByteFallback = steps.some(({ type }) => type === 'ByteFallback')
  return (spelling) => {
    const text = replacements.reduce((changed, { pattern, content }) => changed.replaceAll(pattern.String, content), spelling)
    const byte = hasByteFallback ? BYTE_TOKEN.exec(text)?.[1] : undefined
    return byte === undefined ? Buffer.from(text, 'utf8') : Uint8Array.of(Number.parseInt(byte, 16))
  }
}

/** A token with a character outside the alphabet (an added one) stands for its own text. */
function bytesOfCharacters(spelling: string): Uint8Array {
  const bytes: number[] = []
  for (const character of spelling) {
    const byte = characterBytes.get(character)
    if (byte === undefined) return Buffer.from(spelling, 'utf8')
    bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}
