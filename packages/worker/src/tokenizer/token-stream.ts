import type { TokenBytes } from './token-bytes.ts'
import type { TokenStream } from './tokenizer.ts'

/**
 * UTF-8 as Rust's `from_utf8_lossy` reads it: each longest broken prefix becomes one U+FFFD. A byte order mark is text like
 * any other. A decoder holds the bytes of an unfinished character, so each sequence needs its own.
 */
function createUtf8Decoder() {
  return new TextDecoder('utf-8', { ignoreBOM: true })
}

/** Text of whole tokens, at once. */
export function decodeTokens(ids: readonly number[], tokens: TokenBytes): string {
  return createUtf8Decoder().decode(Buffer.concat(ids.map((id) => tokens.of(id))))
}

/** Text of tokens as they come; each token costs its own bytes, however long the text before it. */
export function createTokenStream(tokens: TokenBytes): TokenStream {
  const decoder = createUtf8Decoder()
  return {
    push: (id) => decoder.decode(tokens.of(id), { stream: true }),
    end: () => decoder.decode(),
  }
}
