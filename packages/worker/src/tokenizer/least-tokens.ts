import { byteCharacters } from './byte-alphabet.ts'
import { createNormalizer } from './normalizer.ts'
import type { TokenizerDescription } from './tokenizer-json.ts'

/**
 * Fewest tokens that a text can become, without making them: every token stands for no more bytes than the longest one has.
 * A megabyte takes some milliseconds, where tokens take half a second. 0 where nothing is certain, because a stage of the
 * tokenizer may make text vanish: spaces around an added token, replaced or removed pieces, text not in normal form.
 */
export function createLeastTokens(description: TokenizerDescription): (text: string) => number {
  if (mayLoseText(description)) return () => 0
  const { addedTokens, model } = description
  // In byte-level BPE each character of a spelling is a byte of the text; an added token is found as it is written.
  let longest = 1
  for (const spelling of model.vocabulary.keys()) longest = Math.max(longest, spelling.length)
  for (const { content } of addedTokens) longest = Math.max(longest, Buffer.byteLength(content))
  const normalize = createNormalizer(description.normalizer)
  // A byte without a token of its own is left out of the prompt.
  const isKept = Uint8Array.from(byteCharacters, (character) => (model.vocabulary.has(character) ? 1 : 0))
  return (text) => {
    const whole = text.toWellFormed()
    if (normalize(whole) !== whole) return 0
    const bytes = Buffer.from(whole)
    let kept = 0
    // By index: an iterator takes ten times as long.
    for (let at = 0; at < bytes.length; at++) kept += isKept[bytes[at] ?? 0] ?? 0
    return Math.ceil(kept / longest)
  }
}

function mayLoseText({ addedTokens, normalizer, preTokenizer }: TokenizerDescription): boolean {
  return (
    !preTokenizer.some(({ type }) => type === 'ByteLevel') ||
    preTokenizer.some((step) => step.type === 'Split' && step.behavior === 'Removed') ||
    // A text in Unicode's normal form has only such parts, so that added tokens within change nothing.
    normalizer.some(({ type }) => type === 'Replace' || type === 'Prepend') ||
    addedTokens.some(({ lstrip, rstrip }) => lstrip || rstrip)
  )
}
