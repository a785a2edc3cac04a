/** How often an adapter is asked for, as far as it is remembered. */
export interface Use {
  /** Uses up to `lastUseMs`, each counting half as much after every half-life. */
  readonly uses: number
  /** On the injected clock. */
  readonly lastUseMs: number
}

/** What losing an adapter from a tier costs, and what keeping it takes. */
export interface Stake {
  /** To have it back in this tier. Above 0. */
  readonly reloadMs: number
  /** Bytes, or slots where the tier counts those. Above 0. */
  readonly space: number
}

/**
 * What an adapter is worth in a tier: the logarithm of (recent uses × reload time ÷ space). The least goes first.
 *
 * Frequency × cost ÷ size is GreedyDual-Size-Frequency (L. Cherkasova, "Improving WWW Proxies Performance with
 * Greedy-Dual-Size-Frequency Caching Policy", HP Labs HPL-98-69R1, 1998). Its ageing by the score of the last one evicted is
 * replaced by an exponential decay of the uses (LRFU: D. Lee et al., IEEE Transactions on Computers 50(12), 2001), because
 * three tiers share one memory of uses. All uses decay alike, so the decay is moved to the other side: a score is not touched
 * by the passing of time, only by a new use, and can stand in a heap.
 *
 * It resists scans because a use counts for little by itself: an adapter that is read once never outweighs one of the same
 * size that is used more than once in a half-life, however many of the former come.
 */
export function keepScore(use: Use | undefined, { reloadMs, space }: Stake, halfLifeMs: number): number {
  if (use === undefined) return Number.NEGATIVE_INFINITY
  return Math.log2(use.uses) + use.lastUseMs / halfLifeMs + Math.log2(reloadMs / space)
}

/** What is left of the uses at `nowMs`. */
export function usesAt({ uses, lastUseMs }: Use, nowMs: number, halfLifeMs: number): number {
  return uses * 2 ** ((lastUseMs - nowMs) / halfLifeMs)
}

/** One more use at `nowMs`. */
export function usedAgain(use: Use | undefined, nowMs: number, halfLifeMs: number): Use {
  const kept = use === undefined ? 0 : usesAt(use, nowMs, halfLifeMs)
  return { uses: kept + 1, lastUseMs: nowMs }
}
