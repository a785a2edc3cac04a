/** Longest run of tokens that is looked for; docs/adr/0026 has what was measured. */
export const longestMatch = 4

/** A sequence with more tokens than half of this forgets some of its older runs where a newer one has the same hash. */
const PLACES_AT_MOST = 2 ** 16

/** What followed the last time that the newest tokens stood somewhere before. */
export interface Continuation {
  readonly tokens: readonly number[]
  /** How many of the newest tokens it follows from, 1 … `longestMatch`: the more, the likelier it comes again. */
  readonly match: number
}

/**
 * Finds where the newest tokens of a sequence stood before: prompt lookup (Saxena 2023, "Prompt Lookup Decoding"; Yang et al. 2023,
 * "Inference with Reference", arXiv 2304.04487). A table for each length of run holds, by the hash of the run, where it stood last; a place is
 * compared with the tokens themselves before it is believed. Four bytes for each place of a table, whose number is fixed at
 * the start; each token is put in once.
 */
export class TokenLookup {
  readonly #tables: readonly Int32Array[]
  readonly #mask: number
  /** Runs that end before this token are in the tables. */
  #indexed = 0

  /** @param tokensAtMost of the sequence, prompt and answer together */
  constructor(tokensAtMost: number) {
    const places = 2 ** Math.ceil(Math.log2(Math.min(PLACES_AT_MOST, Math.max(16, tokensAtMost * 2))))
    this.#mask = places - 1
    this.#tables = Array.from({ length: longestMatch }, () => new Int32Array(places))
  }

  /**
   * @param tokens the same sequence at every call, grown at its end only
   * @param count wanted tokens; where the run reaches into what follows it, its period goes on
   */
  find(tokens: readonly number[], count: number): Continuation | undefined {
    this.#index(tokens)
    for (let match = Math.min(longestMatch, tokens.length - 1); match >= 1; match--) {
      const at = this.#lastPlace(tokens, match)
      if (at === 0) continue
      return { tokens: continued(tokens, at, count), match }
    }
    return undefined
  }

  /** Where the token after an earlier copy of the last `match` tokens stands; 0 for nowhere. */
  #lastPlace(tokens: readonly number[], match: number): number {
    const end = tokens.length
    const at = this.#tables[match - 1]?.[this.#placeOf(tokens, end, match)] ?? 0
    for (let back = 1; back <= match; back++) if (tokens[at - back] !== tokens[end - back]) return 0
    return at
  }

  /** All runs that have a token behind them. */
  #index(tokens: readonly number[]): void {
    for (let end = this.#indexed + 1; end < tokens.length; end++) {
      for (const [index, table] of this.#tables.entries()) {
        if (end > index) table[this.#placeOf(tokens, end, index + 1)] = end
      }
      this.#indexed = end
    }
  }

  /** By the FNV-1a hash (Fowler, Noll and Vo) over whole tokens, folded so that its upper bits count too. */
  #placeOf(tokens: readonly number[], end: number, match: number): number {
    let hash = 0x811c9dc5
    for (let at = end - match; at < end; at++) hash = Math.imul(hash ^ (tokens[at] ?? 0), 0x01000193)
    return (hash ^ (hash >>> 15)) & this.#mask
  }
}

function continued(tokens: readonly number[], at: number, count: number): readonly number[] {
  const period = tokens.length - at
  return Array.from({ length: count }, (_, index) => tokens[at + (index % period)] ?? 0)
}
