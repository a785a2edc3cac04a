import { ServingError } from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { PlacementKind } from '../placement/place.ts'
import type { TrackedWorker } from '../placement/tracked-worker.ts'
import type { PlacementRequest } from '../placement/worker-view.ts'
import type { Ejections } from './ejections.ts'
import type { PoolMember } from './pool-member.ts'
import type { WorkerClient } from './worker-client.ts'
import type { PlacedRun } from './worker-source.ts'

interface Choice {
  readonly member: PoolMember
  readonly client: WorkerClient
  readonly view: TrackedWorker
  readonly target: PlacementRequest
  readonly kind: PlacementKind
}

interface Accounts {
  readonly clock: TimerClock
  readonly ejections: Ejections
  /** The worker has said which weights the run is bound to. */
  readonly learn: (digest: string) => void
}

/** Codes that say something of the worker, and not of the request. */
const faults: ReadonlySet<string> = new Set(['worker_lost', 'internal'])

/** Counts the run at once, before anything is sent: a burst neither scatters nor piles up. */
export function placedRun({ member, client, view, target, kind }: Choice, { clock, ejections, learn }: Accounts): PlacedRun {
  const { address } = member
  const dispatch = view.dispatch(target)
  const attempt = ejections.sent(address)
  return {
    address,
    workerId: client.info.workerId,
    kind,
    async *events(request, signal) {
      const watch = member.watch(signal)
      const pace = new Pace(clock)
      let isDecided = false
      const decide = (code?: string) => {
        if (isDecided) return
        isDecided = true
        if (code === undefined) ejections.succeeded(attempt, pace.tokenMs)
        else if (faults.has(code)) ejections.failed(attempt)
        else if (code === 'client_closed' || code === 'draining' || code === 'deadline_exceeded') ejections.undecided(attempt)
        // It has refused the request as a worker that is well does.
        else ejections.succeeded(attempt)
      }
      try {
        for await (const events of client.run(request, watch.signal)) {
          let tokens = 0
          for (const event of events) {
            if (event.type === 'accepted') {
              dispatch.accepted()
              if (event.adapterDigest !== undefined) learn(event.adapterDigest)
            } else if (event.type === 'token') tokens += 1
            else if (event.type === 'error' || event.type === 'done') {
              pace.tokens(tokens)
              decide(event.type === 'error' ? event.code : undefined)
              tokens = 0
            }
          }
          if (tokens > 0) {
            watch.begun()
            pace.tokens(tokens)
          }
          yield events
        }
      } catch (error) {
        // A request that was ended from our side says nothing of the worker.
        decide(signal.aborted || !(error instanceof ServingError) ? 'client_closed' : error.code)
        throw error
      } finally {
        decide('client_closed')
        watch.ended()
        dispatch.ended()
      }
    },
  }
}

/** How long a worker takes from token to token. */
class Pace {
  readonly #clock: TimerClock
  #firstAtMs = 0
  #lastAtMs = 0
  #tokens = 0

  constructor(clock: TimerClock) {
    this.#clock = clock
  }

  /** So many have come together. */
  tokens(count: number): void {
    if (count === 0) return
    this.#lastAtMs = this.#clock.nowMs()
    if (this.#tokens === 0) this.#firstAtMs = this.#lastAtMs
    this.#tokens += count
  }

  /** Mean; undefined before the second token. */
  get tokenMs(): number | undefined {
    return this.#tokens < 2 ? undefined : (this.#lastAtMs - this.#firstAtMs) / (this.#tokens - 1)
  }
}
