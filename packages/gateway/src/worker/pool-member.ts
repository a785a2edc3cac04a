/**
 * One worker of a pool: the connection over which it tells what it holds, kept up for as long as the worker is a member, and what
 * follows from that for requests.
 */
import { assertNever, type Logger, limits, ServingError, type WorkerEvent, type WorkerInfo } from '@quiver/protocol'
import type { Dispatcher } from 'undici'
import type { TimerClock } from '../clock.ts'
import { TrackedWorker } from '../placement/tracked-worker.ts'
import { connectWorker, type WorkerClient, type WorkerEndpoint } from './worker-client.ts'
import { listenToWorker } from './worker-events.ts'

/** So many heartbeats missing in a row: it gets nothing new, and what it has not begun is tried elsewhere. */
const SILENT_AFTER = 5
/** So many: whatever it was doing is given up. */
const LOST_AFTER = 20
const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 2_000

/**
 * `connecting`: not heard of yet, or lost. `silent`: its connection is there and nothing comes. `stalled`: its step takes too long.
 * `mismatched`: it serves another model under the name of this pool's.
 */
export type MemberState = 'connecting' | 'ready' | 'draining' | 'silent' | 'stalled' | 'mismatched'

export interface MemberDeps {
  readonly dispatcher: Dispatcher
  readonly clock: TimerClock
  /** 0 … 1, as `Math.random`. */
  readonly random: () => number
  readonly log: Logger
  /** Whether this worker may serve beside the others; asked each time that it connects. */
  readonly fits: (info: WorkerInfo) => boolean
  /** Called after every change of what it can do. */
  readonly changed: (member: PoolMember) => void
}

/** What is known while a worker is connected. */
interface Connected {
  readonly client: WorkerClient
  readonly view: TrackedWorker
  readonly fits: boolean
}

/** A run that is ended from here when its worker is lost. */
interface Cut {
  hasBegun: boolean
  readonly controller: AbortController
}

export class PoolMember {
  readonly endpoint: WorkerEndpoint
  readonly #deps: MemberDeps
  readonly #closed = new AbortController()
  readonly #cuts = new Set<Cut>()
  #connected: Connected | undefined
  /** The connection that is being made or listened to. */
  #attempt = new AbortController()
  #missedBeats = 0
  #lostAtMs: number | undefined
  #stopBeat = () => {}
  #endPause = () => {}
  #logged: MemberState = 'connecting'

  constructor({ url, token }: WorkerEndpoint, deps: MemberDeps) {
    this.endpoint = { url, token }
    this.#deps = deps
  }

  /** The address, which stays when the worker's process is another one: an adapter's home does not move with a restart. */
  get address(): string {
    return this.endpoint.url
  }

  get client(): WorkerClient | undefined {
    return this.#connected?.client
  }

  get view(): TrackedWorker | undefined {
    return this.#connected?.view
  }

  get isConnected(): boolean {
    return this.#connected !== undefined
  }

  /** When it was last lost; undefined while it is there, and before it ever was. */
  get lostAtMs(): number | undefined {
    return this.#lostAtMs
  }

  get state(): MemberState {
    if (this.#connected === undefined) return 'connecting'
    const { fits, view } = this.#connected
    if (!fits) return 'mismatched'
    if (this.#missedBeats >= SILENT_AFTER) return 'silent'
    if ((view.load.stepAgeMs ?? 0) > limits.stepAgeMs) return 'stalled'
    return view.load.state
  }

  start(): void {
    void this.#follow()
  }

  /** Ends the connection; runs that are under way go on. */
  close(): void {
    this.#closed.abort()
    this.#attempt.abort()
    this.#stopBeat()
    this.#endPause()
  }

  /**
   * Watches over one run: `signal` is aborted when `outer` is, and when the worker is given up before `ended`.
   * @returns `begun` to be called with the first token: what has begun is not given up for a pause
   */
  watch(outer: AbortSignal): { readonly signal: AbortSignal; begun(): void; ended(): void } {
    const controller = new AbortController()
    const cut: Cut = { hasBegun: false, controller }
    this.#cuts.add(cut)
    // By hand: `AbortSignal.any` costs more than all else here.
    const onOuter = () => controller.abort(outer.reason)
    if (outer.aborted) onOuter()
    else outer.addEventListener('abort', onOuter)
    return {
      signal: controller.signal,
      begun: () => {
        cut.hasBegun = true
      },
      ended: () => {
        this.#cuts.delete(cut)
        outer.removeEventListener('abort', onOuter)
      },
    }
  }

  async #follow(): Promise<void> {
    const { clock, random, log } = this.#deps
    for (let failures = 0; !this.#closed.signal.aborted; failures++) {
      this.#attempt = new AbortController()
      try {
        await this.#listen(this.#attempt.signal)
      } catch (error) {
        if (!this.#closed.signal.aborted)
          log('debug', 'a worker cannot be listened to', { worker: this.address, why: reasonOf(error) })
      }
      if (this.#connected !== undefined) failures = 0
      this.#disconnected()
      if (this.#closed.signal.aborted) return
      // At random moments, so that many gateways do not all come at once to a worker that is back.
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures) * (0.5 + random())
      await new Promise<void>((resolve) => {
        const stop = clock.after(pauseMs, resolve)
        this.#endPause = () => {
          stop()
          resolve()
        }
      })
    }
  }

  /** Resolves when the connection has ended, or stopped making sense. */
  async #listen(signal: AbortSignal): Promise<void> {
    const { dispatcher } = this.#deps
    const client = await connectWorker(this.endpoint, dispatcher, signal)
    for await (const event of listenToWorker(this.endpoint, { dispatcher, signal })) {
      this.#heard()
      if (event === undefined) continue
      if (this.#connected === undefined) this.#begin(client, event)
      // A gap, or another process at this address: begin again with a snapshot.
      else if (event.epoch !== client.info.workerId || !this.#connected.view.apply(event)) return
      this.#deps.changed(this)
    }
  }

  #begin(client: WorkerClient, event: WorkerEvent): void {
    if (event.type !== 'snapshot') throw new ServingError('worker_lost', 'the worker does not begin with a snapshot')
    const { info } = client
    this.#connected = { client, view: new TrackedWorker(this.address, info.limits.sequences, event), fits: this.#deps.fits(info) }
    this.#lostAtMs = undefined
    this.#missedBeats = 0
    this.#beatLater()
    this.#say()
  }

  #disconnected(): void {
    this.#stopBeat()
    if (this.#connected === undefined) return
    this.#connected = undefined
    this.#lostAtMs = this.#deps.clock.nowMs()
    this.#say()
    this.#deps.changed(this)
  }

  #heard(): void {
    const wasSilent = this.#missedBeats >= SILENT_AFTER
    this.#missedBeats = 0
    if (wasSilent) this.#deps.changed(this)
    this.#say()
  }

  /** Beats are counted, not timed: when this process itself stood still, one has been missed and not all that fit into the pause. */
  #beatLater(): void {
    this.#stopBeat = this.#deps.clock.after(limits.eventHeartbeatMs, () => {
      this.#missedBeats += 1
      this.#beatLater()
      const { state } = this
      if (state === 'silent' || state === 'stalled') {
        this.#giveUp(({ hasBegun }) => !hasBegun)
        this.#deps.changed(this)
      }
      if (this.#missedBeats >= LOST_AFTER) {
        this.#giveUp(() => true)
        this.#attempt.abort()
      }
      this.#say()
    })
  }

  #giveUp(which: (cut: Cut) => boolean): void {
    for (const cut of [...this.#cuts]) {
      if (!which(cut)) continue
      this.#cuts.delete(cut)
      cut.controller.abort(new ServingError('worker_lost', 'the worker stopped answering while it served this request'))
    }
  }

  #say(): void {
    const { state } = this
    if (state === this.#logged) return
    this.#logged = state
    const context = { worker: this.address, id: this.client?.info.workerId ?? '' }
    this.#deps.log(state === 'ready' || state === 'draining' ? 'info' : 'warn', sentence(state), context)
  }
}

function sentence(state: MemberState): string {
  switch (state) {
    case 'connecting':
      return 'a worker was lost; it is looked for'
    case 'ready':
      return 'a worker is there'
    case 'draining':
      return 'a worker is about to stop'
    case 'silent':
      return 'a worker does not answer: it gets no requests'
    case 'stalled':
      return 'a step of a worker takes too long: it gets no requests'
    case 'mismatched':
      return 'a worker serves another model under the same name as others: it gets no requests'
    default:
      return assertNever(state)
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
