import type { AdapterDigest, Clock } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'

/** Adapters remembered after they left: as many more slots can be asked for at most. */
const GHOSTS = 4096
/** Traffic of so long ago says nothing any more. */
const LATELY_MS = 10 * 60_000

/**
 * Remembers which adapters had to leave the slots, to say how many slots the traffic would need. An adapter that comes back
 * after k others were evicted since would have stayed with about k slots more. One that never comes back, such as a scan's,
 * would not have been missed and asks for nothing.
 */
export class GhostList {
  readonly #clock: Clock
  /** When each left, in the order of leaving. */
  readonly #ghosts = new LRUCache<AdapterDigest, number>({ max: GHOSTS })
  /** The returns of late, with how many slots more each would have taken, the largest first that is still of interest. */
  #returns: { readonly atMs: number; readonly missing: number }[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** An adapter had to make way. */
  evicted(digest: AdapterDigest): void {
    this.#ghosts.delete(digest)
    this.#ghosts.set(digest, this.#clock.nowMs())
  }

  /** An adapter is put into a slot. */
  loaded(digest: AdapterDigest): void {
    const leftAtMs = this.#ghosts.peek(digest)
    if (leftAtMs === undefined) return
    const missing = this.#leftSince(digest)
    this.#ghosts.delete(digest)
    const atMs = this.#clock.nowMs()
    if (atMs - leftAtMs > LATELY_MS) return
    // A smaller one from before can never be the largest again.
    this.#returns = this.#returns.filter((earlier) => earlier.missing > missing)
    this.#returns.push({ atMs, missing })
  }

  /** Slots more than there are that would have kept whoever came back lately; 0 when nobody was missed. */
  slotsMissing(): number {
    const since = this.#clock.nowMs() - LATELY_MS
    this.#returns = this.#returns.filter(({ atMs }) => atMs >= since)
    return this.#returns[0]?.missing ?? 0
  }

  /** How many left after this one, itself included. The newest ghost is listed first. */
  #leftSince(digest: AdapterDigest): number {
    let count = 0
    for (const ghost of this.#ghosts.keys()) {
      count += 1
      if (ghost === digest) break
    }
    return count
  }
}
