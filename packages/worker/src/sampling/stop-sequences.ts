/** Watches one sequence's text for its stop texts. */
export interface StopSequences {
  /** Takes the next piece of text, as the token stream delivers it. @returns whether it completes a stop text */
  push(text: string): boolean
}

/**
 * A stop text counts wherever it ends, also inside a token and across tokens; LoRAX looks only at whether the text ends with
 * it after a token, so that `\n` is missed in a token `\n\n`. As there, the text up to the end of that token stays in the
 * answer, because what was streamed cannot be taken back. Text of special tokens counts, so `<|im_end|>` can be one.
 *
 * Holds no more of the text than the longest stop text.
 */
export function createStopSequences(stops: readonly string[]): StopSequences {
  const kept = stops.reduce((longest, { length }) => Math.max(longest, length), 1) - 1
  let tail = ''
  return {
    push: (text) => {
      if (text === '' || stops.length === 0) return false
      const seen = tail + text
      tail = kept === 0 ? '' : seen.slice(-kept)
      return stops.some((stop) => seen.includes(stop))
    },
  }
}
