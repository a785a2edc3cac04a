import { longestMatch, TokenLookup } from './token-lookup.ts'

/** Tokens that may come next, guessed without a model. */
export interface Draft {
  readonly tokens: readonly number[]
  /** How likely each of them is right where those before it are, in (0, 1). */
  readonly chance: number
}

/** Before anything is known of a sequence, by the length of the match; from the runs that docs/adr/0026 counts. */
const FIRST_CHANCES = [0.3, 0.55, 0.7, 0.9]
/** A guess that came right, or not, moves the estimate by this share of the difference. */
const SHARE = 0.15
const CHANCE_AT_MOST = 0.98

export interface DrafterOptions {
  /** Tokens of the sequence, prompt and answer together. */
  readonly tokensAtMost: number
  /** Tokens of one draft. */
  readonly draftTokens: number
  /** Nothing is guessed beyond these. */
  readonly eosTokenIds: ReadonlySet<number>
}

/**
 * Guesses how one sequence goes on, and learns how often that comes right: from every token, whether the guess was computed
 * or not, so that it never costs a step to find out.
 */
export class Drafter {
  readonly #options: DrafterOptions
  /** Made with the first guess: who waits takes no memory for it. */
  #lookup: TokenLookup | undefined
  readonly #chances = [...FIRST_CHANCES]
  /** What the last guess expects next. */
  #expected: { readonly tokens: readonly number[]; readonly match: number; at: number } | undefined

  constructor(options: DrafterOptions) {
    this.#options = options
  }

  /**
   * @param tokens all of the sequence, which only grows from one call to the next
   * @param room tokens that may still be generated; the last of them needs no row, because nothing comes after it
   */
  guess(tokens: readonly number[], room: number): Draft | undefined {
    this.#lookup ??= new TokenLookup(this.#options.tokensAtMost)
    const found = this.#lookup.find(tokens, this.#options.draftTokens)
    this.#expected = found && { tokens: found.tokens, match: found.match, at: 0 }
    if (found === undefined) return undefined
    const { eosTokenIds } = this.#options
    const end = found.tokens.findIndex((token) => eosTokenIds.has(token))
    const count = Math.min(end === -1 ? found.tokens.length : end, Math.max(0, room - 1))
    if (count === 0) return undefined
    return { tokens: found.tokens.slice(0, count), chance: this.#chances[found.match - 1] ?? 0 }
  }

  /** Tells the token that the sequence went on with. */
  came(token: number): void {
    const expected = this.#expected
    if (expected === undefined) return
    const isRight = expected.tokens[expected.at] === token
    const index = Math.min(longestMatch, expected.match) - 1
    const chance = this.#chances[index] ?? 0
    this.#chances[index] = Math.min(CHANCE_AT_MOST, chance + SHARE * (Number(isRight) - chance))
    expected.at += 1
    if (!isRight || expected.at === expected.tokens.length) this.#expected = undefined
  }
}
