import type { DoneEvent, TokenEvent } from '@quiver/protocol'

/** Text that can no longer turn out to be part of a stop text, and the tokens that it began with. */
export interface TextPiece {
  readonly text: string
  readonly tokens: readonly TokenEvent[]
}

interface HeldText {
  readonly text: string
  readonly isShown: boolean
}

/**
 * The text of one choice as OpenAI's clients see it: without special tokens, and ending before the stop text. LoRAX leaves the
 * stop text in, and so does the worker; here what may be the beginning of one is held back until it is known.
 */
export class AnswerText {
  readonly #stops: readonly string[]
  /** What is held back, piece by piece: special tokens count for stop texts but are not shown. */
  #held: HeldText[] = []
  /** Tokens not yet told, with the place in the whole text where each begins. */
  #tokens: { readonly token: TokenEvent; readonly at: number }[] = []
  #length = 0
  /** Of everything that was decided: where it ends in the whole text, and what was shown of it. */
  #decided = 0
  #shown = ''
  #isStopped = false

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** Whether a stop text was found. */
  get isStopped(): boolean {
    return this.#isStopped
  }

  push(token: TokenEvent): TextPiece {
    if (this.#isStopped) return { text: '', tokens: [] }
    if (this.#isPlain && token.text !== '') return this.#tell(token)
    this.#held.push({ text: token.text, isShown: !token.special })
    if (!token.special) this.#tokens.push({ token, at: this.#length })
    this.#length += token.text.length
    const held = this.#held.map(({ text }) => text).join('')
    const found = this.#stops.map((stop) => held.indexOf(stop)).filter((at) => at !== -1)
    if (found.length === 0) return this.#decide(held.length - this.#possibleStop(held))
    this.#isStopped = true
    return this.#decide(Math.min(...found))
  }

  /** The rest: the worker's own text of the whole run is what counts, unless a stop text ended it. */
  end({ generatedText }: DoneEvent): TextPiece {
    if (this.#isStopped) return { text: '', tokens: [] }
    const rest = this.#decide(this.#length - this.#decided)
    const shown = this.#shown
    if (!generatedText.startsWith(shown)) return rest
    return {
      text: rest.text + generatedText.slice(shown.length),
      tokens: [...rest.tokens, ...this.#tokens.map(({ token }) => token)],
    }
  }

  /** Nothing is held back, and nothing ever will be. */
  get #isPlain(): boolean {
    return this.#stops.length === 0 && this.#held.length === 0 && this.#tokens.length === 0
  }

  #tell(token: TokenEvent): TextPiece {
    this.#length += token.text.length
    this.#decided = this.#length
    if (token.special) return { text: '', tokens: [] }
    this.#shown += token.text
    return { text: token.text, tokens: [token] }
  }

  /** Length of the longest end of `text` that a stop text may begin with. */
  #possibleStop(text: string): number {
    const longest = this.#stops.reduce((most, { length }) => Math.max(most, length - 1), 0)
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const end = text.slice(-length)
      if (this.#stops.some((stop) => stop.startsWith(end))) return length
    }
    return 0
  }

  /** Takes the first `length` units out of what is held. */
  #decide(length: number): TextPiece {
    let text = ''
    let left = length
    const kept: HeldText[] = []
    for (const piece of this.#held) {
      const taken = piece.text.slice(0, left)
      left -= taken.length
      if (piece.isShown) text += taken
      if (taken.length < piece.text.length) kept.push({ ...piece, text: piece.text.slice(taken.length) })
    }
    this.#held = kept
    this.#decided += length
    this.#shown += text
    const isTold = ({ at }: { readonly at: number }) => at < this.#decided
    const tokens = this.#tokens.filter(isTold).map(({ token }) => token)
    this.#tokens = this.#tokens.filter((held) => !isTold(held))
    return { text, tokens }
  }
}
