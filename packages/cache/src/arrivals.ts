import { type AdapterDigest, type Clock, type Logger, type ServingError, toServingError } from '@quiver/protocol'
import type { AdapterLoader, Loaded } from './adapter-loader.ts'
import type { AdapterIdentity } from './adapter-origins.ts'
import type { AttemptMarks } from './attempt-marks.ts'
import type { PackedAdapter } from './format/packed-adapter.ts'
import type { ValidAdapter } from './format/validate.ts'
import { LoadGate } from './load-gate.ts'
import type { ReadSource } from './merge/member-sources.ts'
import type { EvictionPolicy } from './policy/eviction-policy.ts'
import type { Quarantine } from './quarantine.ts'
import { type Outcome, SingleFlight } from './single-flight.ts'

/** Loads that run at once: enough that a slow origin holds up nobody else's, few enough to bound memory and file handles. */
const LOADS_AT_ONCE = 16
/** Merges that run at once, beside the loads: each holds the source weights of all of its members in memory. */
const MERGES_AT_ONCE = 2

export interface ArrivalsDeps {
  readonly clock: Clock
  readonly log: Logger
  readonly policy: EvictionPolicy
  readonly quarantine: Quarantine
  readonly marks: AttemptMarks
  /** Whether there is room in memory for one more. */
  readonly hasRoom: () => boolean
  readonly loader: AdapterLoader
  /** An adapter has set out, or does not come any more. */
  readonly changed: (digest: AdapterDigest) => void
}

/** Counted since the start. */
export interface ArrivalCounters {
  readonly disk: number
  readonly origin: number
  readonly merge: number
  readonly failed: number
}

/** Adapters on their way into memory: one load for all who wait for the same one, bounded, and remembered when it fails. */
export class Arrivals {
  readonly #deps: ArrivalsDeps
  readonly #gate: LoadGate
  readonly #mergeGate: LoadGate
  readonly #flights = new SingleFlight<AdapterDigest, PackedAdapter>()
  readonly #startedAtMs = new Map<AdapterDigest, { readonly startedAtMs: number }>()
  readonly #counters = { disk: 0, origin: 0, merge: 0, failed: 0 }

  constructor(deps: ArrivalsDeps) {
    this.#deps = deps
    this.#gate = new LoadGate(LOADS_AT_ONCE, deps.hasRoom)
    this.#mergeGate = new LoadGate(MERGES_AT_ONCE, deps.hasRoom)
  }

  get counters(): ArrivalCounters {
    return { ...this.#counters }
  }

  /** What is on its way, and since when. */
  get all(): ReadonlyMap<AdapterDigest, { readonly startedAtMs: number }> {
    return this.#startedAtMs
  }

  has(digest: AdapterDigest): boolean {
    return this.#flights.has(digest)
  }

  /** Waits for an adapter, which is loaded when it is not on its way yet. @returns leaves; see `SingleFlight.join` */
  join(identity: AdapterIdentity, settle: (outcome: Outcome<PackedAdapter>) => void): () => void {
    return this.#flights.join(identity.digest, (signal) => this.#fly(identity, signal), settle)
  }

  /** A member that has just failed, in a merge or by itself, is not asked for again at once. */
  async readMember(digest: AdapterDigest, signal: AbortSignal, read: ReadSource): Promise<ValidAdapter> {
    const failure = this.#deps.quarantine.get(digest)
    if (failure !== undefined) throw failure.cause
    return await this.#attempt(digest, signal, () => this.#gate.run(signal, () => read(digest, signal)))
  }

  /** There is more room in memory. */
  wake(): void {
    this.#gate.wake()
    this.#mergeGate.wake()
  }

  /** Aborts everything and tells all who wait why. */
  failAll(reason: ServingError): void {
    this.#flights.failAll(reason)
  }

  /** One load for all who wait. */
  async #fly({ digest, recipe }: AdapterIdentity, signal: AbortSignal): Promise<PackedAdapter> {
    const arrival = { startedAtMs: this.#deps.clock.nowMs() }
    this.#startedAtMs.set(digest, arrival)
    this.#deps.changed(digest)
    // A merge waits for loads of its members, so it must not hold a place among them.
    const gate = recipe === undefined ? this.#gate : this.#mergeGate
    const { marks, loader } = this.#deps
    const load = (): Promise<Loaded> => this.#timed(() => loader.load(digest, recipe, signal))
    try {
      const marked = (): Promise<Loaded> => marks.guard(digest, 'load', load)
      const inTurn = (): Promise<Loaded> => marks.inTurn(digest, 'load', signal, () => gate.run(signal, marked))
      return (await this.#attempt(digest, signal, inTurn)).adapter
    } finally {
      // A newer flight of this digest may have begun since this one was aborted.
      if (this.#startedAtMs.get(digest) === arrival) this.#startedAtMs.delete(digest)
      this.#deps.changed(digest)
    }
  }

  async #timed(load: () => Promise<Loaded>): Promise<Loaded> {
    const { clock, policy } = this.#deps
    const startedAtMs = clock.nowMs()
    const loaded = await load()
    policy.noteReload(loaded.from, loaded.adapter.bytes, clock.nowMs() - startedAtMs)
    this.#counters[loaded.from] += 1
    return loaded
  }

  /** Everything but an abort counts for or against the adapter. */
  async #attempt<T>(digest: AdapterDigest, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { quarantine, log } = this.#deps
    try {
      const result = await work()
      quarantine.succeeded(digest)
      return result
    } catch (thrown) {
      const cause = toServingError(thrown)
      // An abort says nothing about the adapter.
      if (!signal.aborted) {
        this.#counters.failed += 1
        quarantine.failed(digest, cause)
        log('warn', 'an adapter cannot be loaded', { ...cause.context, digest, code: cause.code, reason: reasonOf(cause) })
      }
      throw cause
    }
  }
}

/** An unexpected error hides its text from clients; the log wants it. */
function reasonOf({ message, cause }: ServingError): string {
  return cause instanceof Error ? `${message}: ${cause.message}` : message
}
