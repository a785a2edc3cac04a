import type { Clock, ServingError } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'

/** Failures remembered at once; the least recently touched are forgotten first. */
const MAX_ENTRIES = 10_000
const FIRST_MS = 1_000
const LONGEST_MS = 30_000
/** A failure this long after the end of the last back-off starts at the first step again. */
const FORGIVEN_MS = 60_000

export interface Failure {
  readonly cause: ServingError
  readonly untilMs: number
}

interface Entry extends Failure {
  readonly backoffMs: number
}

/**
 * Remembers what just failed, so that a broken or missing adapter is not fetched again for every request: for one second
 * after the first failure, then two, four, … up to thirty. Seconds, not minutes: a publisher who mends it should not wait.
 */
export class NegativeCache<K extends string> {
  readonly #entries = new LRUCache<K, Entry>({ max: MAX_ENTRIES })
  readonly #clock: Clock

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The failure that still holds for this key. */
  get(key: K): Failure | undefined {
    const entry = this.#entries.get(key)
    return entry !== undefined && entry.untilMs > this.#clock.nowMs() ? entry : undefined
  }

  failed(key: K, cause: ServingError): void {
    const nowMs = this.#clock.nowMs()
    const last = this.#entries.get(key)
    const again = last !== undefined && nowMs < last.untilMs + FORGIVEN_MS
    const backoffMs = again ? Math.min(last.backoffMs * 2, LONGEST_MS) : FIRST_MS
    this.#entries.set(key, { cause, backoffMs, untilMs: nowMs + backoffMs })
  }

  succeeded(key: K): void {
    this.#entries.delete(key)
  }
}
