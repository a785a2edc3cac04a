/** Log-probabilities in OpenAI's two forms. */
import type { TokenEvent } from '@quiver/protocol'
import { longList } from '../json-answer.ts'

interface ChatLogprob {
  readonly token: string
  readonly logprob: number
  /** The text's UTF-8; null where the token is only a part of a character. */
  readonly bytes: readonly number[] | null
}

/** `logprobs` of a chat choice. A token that ends a character has all of its text; one before that has none. */
export function chatLogprobs(tokens: readonly TokenEvent[], top: number): object {
  return {
    content: longList(tokens, (token) => ({
      ...chatLogprob(token),
      top_logprobs: (token.alternatives ?? []).slice(0, top).map(chatLogprob),
    })),
    refusal: null,
  }
}

function chatLogprob({ text, logprob }: { readonly text: string; readonly logprob: number }): ChatLogprob {
  return { token: text, logprob, bytes: text.includes('\ufffd') ? null : [...Buffer.from(text, 'utf8')] }
}

/** A token of a prompt or of an answer. */
export interface ListedToken {
  readonly text: string
  readonly logprob?: number | undefined
  readonly alternatives?: TokenEvent['alternatives'] | undefined
}

/**
 * `logprobs` of a completion: the `top` likeliest tokens and the one that was taken.
 * @param offset characters of the text before these tokens
 */
export function completionLogprobs(tokens: readonly ListedToken[], top: number, offset: number): object {
  let at = offset
  const offsets = tokens.map(({ text }) => {
    const start = at
    at += characters(text)
    return start
  })
  return {
    tokens: longList(tokens, ({ text }) => text),
    token_logprobs: longList(tokens, ({ logprob }) => logprob ?? null),
    top_logprobs: longList(tokens, ({ text, logprob, alternatives }) => {
      // The prompt's tokens come without alternatives.
      if (alternatives === undefined || logprob === undefined) return null
      return Object.fromEntries([...alternatives.slice(0, top), { text, logprob }].map((known) => [known.text, known.logprob]))
    }),
    text_offset: longList(offsets, (offset) => offset),
  }
}

/** Counted by code points. */
export function characters(text: string): number {
  return Array.from(text).length
}
