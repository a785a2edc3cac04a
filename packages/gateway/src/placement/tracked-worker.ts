import type { HeldPresence, WorkerEvent, WorkerLoad } from '@quiver/protocol'
import { hashText } from './rendezvous.ts'
import type { Presence, WorkerView } from './worker-view.ts'

const MIB = 1024 * 1024

/** A request that this gateway has sent and the worker has not reported yet. Idempotent calls. */
export interface Dispatch {
  /** The worker has said `accepted`: the next report of its load counts the request. */
  accepted(): void
  /** It never got there, or is over. */
  ended(): void
}

/**
 * One worker as this gateway knows it: its last snapshot with all deltas since, and the gateway's own dispatches that are not in
 * them yet. Those are counted at once, so that a burst neither scatters nor piles up: an adapter that was just sent somewhere
 * counts as arriving there.
 */
export class TrackedWorker implements WorkerView {
  readonly id: string
  readonly hash: number
  readonly sequences: number
  #load: WorkerLoad
  #stamp: { readonly epoch: string; readonly sequence: number }
  #adapters: Map<string, HeldPresence>
  /** Set from outside: whether health checks and failures let it take requests. */
  isHealthy = true
  readonly #pending = new Set<PendingDispatch>()
  /** How many pending dispatches want each adapter. */
  readonly #coming = new Map<string, number>()

  /** @param snapshot what an events stream begins with */
  constructor(id: string, sequences: number, snapshot: Extract<WorkerEvent, { type: 'snapshot' }>) {
    this.id = id
    this.hash = hashText(id)
    this.sequences = sequences
    this.#load = snapshot.load
    this.#stamp = snapshot
    this.#adapters = adaptersOf(snapshot)
  }

  /**
   * Takes in what the worker says.
   * @returns false: the event does not follow on what is known; the view is as before, and a snapshot is needed
   */
  apply(event: WorkerEvent): boolean {
    if (event.type === 'snapshot') {
      this.#adapters = adaptersOf(event)
    } else {
      if (event.epoch !== this.#stamp.epoch || event.sequence !== this.#stamp.sequence + 1) return false
      for (const { digest, presence } of event.adapters ?? []) {
        if (presence === 'absent') this.#adapters.delete(digest)
        else this.#adapters.set(digest, presence)
      }
    }
    this.#stamp = { epoch: event.epoch, sequence: event.sequence }
    if (event.load !== undefined) this.#report(event.load)
    return true
  }

  /** Counts a request that is being sent. */
  dispatch(request: { readonly adapter?: string; readonly promptTokens: number }): Dispatch {
    const pending: PendingDispatch = { ...request, isAccepted: false }
    this.#pending.add(pending)
    if (pending.adapter !== undefined) this.#coming.set(pending.adapter, (this.#coming.get(pending.adapter) ?? 0) + 1)
    return {
      accepted: () => {
        pending.isAccepted = true
      },
      ended: () => this.#settle(pending),
    }
  }

  get accepts(): boolean {
    return this.isHealthy && this.#load.state === 'ready'
  }

  get requests(): number {
    return this.#load.running + this.#load.waiting + this.#pending.size
  }

  get queuedTokens(): number {
    let tokens = this.#load.queuedTokens
    for (const { promptTokens } of this.#pending) tokens += promptTokens
    return tokens
  }

  get tokensPerSecond(): number {
    return this.#load.tokensPerSecond
  }

  get turnoverMs(): number {
    return this.#load.turnoverMs
  }

  get freeSlots(): number {
    return this.#load.freeSlots
  }

  get hasSlotToGive(): boolean {
    return this.#load.hasSlotToGive
  }

  get victim(): WorkerLoad['victim'] {
    return this.#load.victim
  }

  /** What the worker last said, without what this gateway has sent since. */
  get load(): WorkerLoad {
    return this.#load
  }

  presence(adapter: string): Presence {
    const held = this.#adapters.get(adapter)
    if (held === 'device' || !this.#coming.has(adapter)) return held ?? 'absent'
    return 'arriving'
  }

  /** Every adapter that the worker has, in its fastest tier. */
  adapters(): Iterable<readonly [string, HeldPresence]> {
    return this.#adapters
  }

  loadMs(presence: Presence, bytes: number): number {
    if (presence === 'device') return 0
    const { ram, disk, origin } = this.#load.reload
    // What is arriving may be anywhere on its way: taken for the last stretch, which every load ends with.
    const { fixedMs, msPerMib } = { arriving: ram, ram, disk, absent: origin }[presence]
    return fixedMs + (msPerMib * bytes) / MIB
  }

  #report(load: WorkerLoad): void {
    this.#load = load
    for (const pending of this.#pending) if (pending.isAccepted) this.#settle(pending)
  }

  #settle(pending: PendingDispatch): void {
    if (!this.#pending.delete(pending) || pending.adapter === undefined) return
    const others = (this.#coming.get(pending.adapter) ?? 0) - 1
    if (others > 0) this.#coming.set(pending.adapter, others)
    else this.#coming.delete(pending.adapter)
  }
}

interface PendingDispatch {
  readonly adapter?: string
  readonly promptTokens: number
  isAccepted: boolean
}

function adaptersOf({ adapters }: Extract<WorkerEvent, { type: 'snapshot' }>): Map<string, HeldPresence> {
  return new Map(adapters.map(({ digest, presence }) => [digest, presence]))
}
