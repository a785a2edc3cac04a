import type { AdapterCache } from '@quiver/cache'
import { type AdapterDigest, limits, type WorkerEvent, type WorkerLoad } from '@quiver/protocol'
import type { Timers } from './timers.ts'

/** Changes within this time go out as one delta, so that a busy worker does not talk more than it works. */
const GATHER_MS = 20
/** A step that takes longer than this is told with every heartbeat: nothing else changes while one hangs. */
const LONG_STEP_MS = 1_000

type Presence = NonNullable<Extract<WorkerEvent, { type: 'delta' }>['adapters']>[number]['presence']

/** Who hears of a worker. No method throws or waits. */
export interface EventListener {
  event(event: WorkerEvent): void
  heartbeat(): void
  /** Nothing more will come. */
  end(): void
}

export interface EventFeedDeps {
  /** Different at every start of the process. */
  readonly epoch: string
  readonly timers: Timers
  readonly cache: Pick<AdapterCache, 'presences' | 'residency' | 'onPresenceChange'>
  readonly load: () => WorkerLoad
}

/**
 * What this worker holds and how busy it is, for every gateway that listens: first a snapshot, then what has changed. All
 * listeners share one sequence of deltas; who joins gets a snapshot that stands at its end. A delta says where an adapter is
 * when it is sent, not where it was when it moved, so that a move that is undone at once costs nothing.
 */
export class EventFeed {
  readonly #deps: EventFeedDeps
  readonly #listeners = new Set<EventListener>()
  readonly #moved = new Set<AdapterDigest>()
  readonly #stopListening: () => void
  #sequence = 0
  #loadChanged = false
  #callOffFlush: (() => void) | undefined
  #callOffHeartbeat = () => {}

  constructor(deps: EventFeedDeps) {
    this.#deps = deps
    this.#stopListening = deps.cache.onPresenceChange((digest) => {
      if (this.#listeners.size === 0) return
      this.#moved.add(digest)
      this.#flushSoon()
    })
  }

  /** The load may be another one now. */
  readonly loadChanged = (): void => {
    if (this.#listeners.size === 0) return
    this.#loadChanged = true
    this.#flushSoon()
  }

  /** Sends what has changed now, such as the news that nobody should come any more. */
  flush(): void {
    this.#callOffFlush?.()
    this.#callOffFlush = undefined
    if (this.#moved.size === 0 && !this.#loadChanged) return
    const adapters = Array.from(this.#moved, (digest) => ({ digest, presence: this.#presence(digest) }))
    this.#moved.clear()
    this.#loadChanged = false
    this.#sequence += 1
    // Where adapters are says what the next load would push out, so the two go together.
    this.#tell({
      type: 'delta',
      epoch: this.#deps.epoch,
      sequence: this.#sequence,
      load: this.#deps.load(),
      ...(adapters.length === 0 ? {} : { adapters }),
    })
  }

  /** Gives the listener a snapshot at once and every change from then on. @returns ends that */
  join(listener: EventListener): () => void {
    this.flush()
    if (this.#listeners.size === 0) this.#beatLater()
    this.#listeners.add(listener)
    listener.event({
      type: 'snapshot',
      epoch: this.#deps.epoch,
      sequence: this.#sequence,
      load: this.#deps.load(),
      adapters: this.#held(),
    })
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size === 0) this.#callOffHeartbeat()
    }
  }

  close(): void {
    this.#stopListening()
    this.#callOffFlush?.()
    this.#callOffHeartbeat()
    for (const listener of this.#listeners) listener.end()
    this.#listeners.clear()
  }

  #held(): Extract<WorkerEvent, { type: 'snapshot' }>['adapters'] {
    return this.#deps.cache.presences().adapters.flatMap(({ digest, state, tier }) => {
      const presence = state === 'arriving' ? state : state === 'resident' ? tier : undefined
      return presence === undefined ? [] : [{ digest, presence }]
    })
  }

  #presence(digest: AdapterDigest): Presence {
    const residency = this.#deps.cache.residency(digest)
    if (residency.state === 'arriving') return 'arriving'
    return residency.state === 'resident' ? residency.tier : 'absent'
  }

  #tell(event: WorkerEvent): void {
    for (const listener of [...this.#listeners]) listener.event(event)
  }

  #flushSoon(): void {
    this.#callOffFlush ??= this.#deps.timers.after(GATHER_MS, () => this.flush())
  }

  #beatLater(): void {
    this.#callOffHeartbeat = this.#deps.timers.after(limits.eventHeartbeatMs, () => {
      if ((this.#deps.load().stepAgeMs ?? 0) > LONG_STEP_MS) {
        this.#loadChanged = true
        this.flush()
      } else for (const listener of [...this.#listeners]) listener.heartbeat()
      this.#beatLater()
    })
  }
}
