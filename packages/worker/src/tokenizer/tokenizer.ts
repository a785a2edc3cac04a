import type { ChatMessage, TextToken } from '@quiver/protocol'
import type { Slices } from './slices.ts'

/** Text to tokens and back, for one model. */
export interface Tokenizer {
  readonly vocabSize: number
  readonly eosTokenIds: readonly number[]
  /** `bos_token`, `eos_token` and their like, as text. */
  readonly specialTokens: Readonly<Record<string, string>>
  /**
   * Encodes a prompt as it stands: text of special tokens becomes those tokens; a BOS is added only where the model's own
   * tokenizer does, and with `addSpecial: false` (a rendered chat template, which writes its own) not at all.
   */
  encode(text: string, options?: { readonly addSpecial?: boolean }): number[]
  /** The same, in slices. */
  encodeSlices(text: string, options?: { readonly addSpecial?: boolean }): Slices<number[]>
  /** The same tokens with their places in the text, in slices. */
  tokenizeSlices(text: string, options?: { readonly addSpecial?: boolean }): Slices<TextToken[]>
  /** A quick lower bound of how many tokens `encode` gives; 0 where none is certain. */
  leastTokens(text: string): number
  /** Decodes whole tokens; special ones are left out unless asked for. */
  decode(ids: readonly number[], options?: { readonly keepSpecial?: boolean }): string
  isSpecial(id: number): boolean
  /** The bytes that one token adds to a text, not to be written to; none for an id that is no token. */
  tokenBytes(id: number): Uint8Array
  /** A decoder for one sequence's output. */
  stream(): TokenStream
  /** Renders a conversation with the model's chat template. @throws ServingError `template_error` when there is none or it fails */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string
}

export interface ChatTemplateOptions {
  /** true unless said otherwise. */
  readonly addGenerationPrompt?: boolean
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | undefined
  /** Introduces the tools where the template has no place for them. */
  readonly toolPrompt?: string | undefined
}

/** Decodes one sequence token by token and never splits a character. */
export interface TokenStream {
  /** @returns the text that became certain with this token: `''` while a character is incomplete; a special token's own text (`<|im_end|>`) */
  push(id: number): string
  /** @returns what is left when the sequence ends: U+FFFD for an incomplete character, else `''` */
  end(): string
}
