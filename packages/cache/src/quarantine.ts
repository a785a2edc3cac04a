import type { AdapterDigest, Clock, ErrorCode, ServingError } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { type Failure, NegativeCache } from './negative-cache.ts'

/** Failures of its own in a row after which an adapter is left alone. */
const FAILURES_ALLOWED = 2
const QUARANTINE_MS = 15 * 60_000
/** Adapters whose own failures are counted at once; the least recently touched are forgotten first. */
const COUNTED = 10_000

/** The adapter itself is at fault: the same bytes fail again, whatever its source does. */
const ownFaults: ReadonlySet<ErrorCode> = new Set(['adapter_invalid', 'too_large'])

interface Count {
  readonly failures: number
  readonly held?: Failure
}

/**
 * Which adapters are not tried now. Whatever fails is let rest for seconds (`NegativeCache`). One that fails twice in a row by a
 * fault of its own is quarantined: a digest stands for its bytes, so only another worker or an operator's order can change the
 * outcome. A source that cannot be reached, or bytes that did not arrive whole, say nothing about the adapter.
 */
export class Quarantine {
  readonly #clock: Clock
  readonly #resting: NegativeCache<AdapterDigest>
  readonly #counts = new LRUCache<AdapterDigest, Count>({ max: COUNTED })

  constructor(clock: Clock) {
    this.#clock = clock
    this.#resting = new NegativeCache(clock)
  }

  /** Why it is not tried now, and until when. */
  get(digest: AdapterDigest): Failure | undefined {
    return this.#held(digest) ?? this.#resting.get(digest)
  }

  failed(digest: AdapterDigest, cause: ServingError): void {
    this.#resting.failed(digest, cause)
    if (!ownFaults.has(cause.code)) return
    const failures = (this.#counts.get(digest)?.failures ?? 0) + 1
    if (failures >= FAILURES_ALLOWED) this.hold(digest, cause, failures)
    else this.#counts.set(digest, { failures })
  }

  succeeded(digest: AdapterDigest): void {
    this.lift(digest)
  }

  /** Quarantines an adapter at once. */
  hold(digest: AdapterDigest, cause: ServingError, failures = FAILURES_ALLOWED): void {
    this.#counts.set(digest, { failures, held: { cause, untilMs: this.#clock.nowMs() + QUARANTINE_MS } })
  }

  /** Forgets what is held against an adapter. */
  lift(digest: AdapterDigest): void {
    this.#resting.succeeded(digest)
    this.#counts.delete(digest)
  }

  /** Adapters in quarantine now, with why and until when; those that only rest are not among them. */
  *all(): Iterable<readonly [AdapterDigest, Failure]> {
    for (const digest of this.#counts.keys()) {
      const held = this.#held(digest)
      if (held !== undefined) yield [digest, held]
    }
  }

  get size(): number {
    return Array.from(this.all()).length
  }

  #held(digest: AdapterDigest): Failure | undefined {
    const held = this.#counts.peek(digest)?.held
    return held !== undefined && held.untilMs > this.#clock.nowMs() ? held : undefined
  }
}
