import type { AdapterDigest, Clock } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { keepScore, type Use, usedAgain, usesAt } from './eviction-score.ts'
import { ReloadCosts, type ReloadSource } from './reload-costs.ts'

/** After so long without another, a use counts half. Long enough to tell steady traffic from a scan, short enough to follow the day. */
const HALF_LIFE_MS = 10 * 60_000
/** Adapters whose use is remembered, also of those that are in no tier: a regular who was evicted comes back as one. */
const REMEMBERED = 50_000

/** What a tier asks about. */
export interface Kept {
  readonly digest: AdapterDigest
  /** Packed size, which the time of a reload follows. */
  readonly bytes: number
  readonly from: ReloadSource
  /** What it takes of the tier: its bytes, or 1 where places are counted. */
  readonly space: number
}

/**
 * Decides for all three tiers what is worth keeping, from one memory of what was asked for. A tier never asks about what is
 * leased or pinned. Deterministic: same uses at the same times, same scores.
 */
export class EvictionPolicy {
  readonly #clock: Clock
  readonly #uses = new LRUCache<AdapterDigest, Use>({ max: REMEMBERED })
  readonly #costs = new ReloadCosts()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A request asks for the adapter. */
  noteUse(digest: AdapterDigest): void {
    this.#uses.set(digest, usedAgain(this.#uses.get(digest), this.#clock.nowMs(), HALF_LIFE_MS))
  }

  /** An adapter was brought to where it was missing. */
  noteReload(from: ReloadSource, bytes: number, tookMs: number): void {
    this.#costs.note(from, bytes, tookMs)
  }

  /** What bringing an adapter into the device takes from each place, as far as it was measured: a load ends with the copy out of memory. */
  reloads(): Readonly<Record<'ram' | 'disk' | 'origin', { readonly fixedMs: number; readonly msPerMib: number }>> {
    const ram = this.#costs.line('ram')
    const through = (source: ReloadSource) => {
      const { fixedMs, msPerMib } = this.#costs.line(source)
      return { fixedMs: fixedMs + ram.fixedMs, msPerMib: msPerMib + ram.msPerMib }
    }
    return { ram, disk: through('disk'), origin: through('origin') }
  }

  /** How often an adapter has been asked for lately; what a steady rate settles at. */
  requestsPerSecond(digest: AdapterDigest): number {
    const use = this.#uses.peek(digest)
    return use === undefined ? 0 : (usesAt(use, this.#clock.nowMs(), HALF_LIFE_MS) * Math.LN2 * 1000) / HALF_LIFE_MS
  }

  /** The higher, the longer it stays; −∞ for what nobody has asked for. */
  score({ digest, bytes, from, space }: Kept): number {
    const stake = { reloadMs: this.#costs.estimateMs(from, bytes), space: Math.max(1, space) }
    return keepScore(this.#uses.peek(digest), stake, HALF_LIFE_MS)
  }
}
