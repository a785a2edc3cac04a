import {
  type AdapterDigest,
  type AdapterName,
  type AdapterOrderKind,
  type Logger,
  parseAdapterDigest,
  parseAdapterName,
  ServingError,
  toServingError,
} from '@quiver/protocol'
import { forEachAtMost } from '../at-most.ts'
import type { NameEntry } from '../catalogue/name-entry.ts'
import type { TimerClock } from '../clock.ts'
import type { WorkerAdapters, WorkerSource } from '../worker/worker-source.ts'

/** How often the catalogue's wishes are compared with what workers were told. O(all names), some milliseconds for ten thousand. */
const LOOK_MS = 2000
/** After an order failed, and at most. */
const FIRST_RETRY_MS = 2000
const LAST_RETRY_MS = 120_000
/** A pin waits for its adapter to be loaded. */
const ORDER_PATIENCE_MS = 60_000
const ORDERS_AT_ONCE = 4
/** Stands for the name of what was pinned before this process. A worker goes by the digest. */
const PINNED_BEFORE = parseAdapterName('pinned-before')

export interface PinKeeperDeps {
  readonly catalogue: { entries(): Iterable<NameEntry> }
  readonly workers: Pick<WorkerSource, 'arrivals' | 'adapters' | 'order'>
  readonly clock: TimerClock
  readonly log: Logger
}

/** A version that is pinned, or an order is about. */
interface Subject {
  readonly name: AdapterName
  readonly digest: AdapterDigest
  /** Whose workers are meant; absent: not known, and so all. */
  readonly base?: string | undefined
}

/** The same weights may be published for two base models. */
type SubjectKey = string
const keyOf = ({ digest, base = '' }: Subject): SubjectKey => `${digest} ${base}`

interface Retry {
  readonly atMs: number
  readonly delayMs: number
}

/**
 * Sees to it that the workers of a base model have pinned what the catalogue says of its adapters: after a pin or unpin, when an alias
 * moves, when another gateway changed something, and again for every worker that becomes ready, since a worker's pins end with it. Works
 * by comparing, so that nothing depends on having heard of a change.
 */
export class PinKeeper {
  readonly #deps: PinKeeperDeps
  /** What the workers of these arrivals were told to pin and have not been told to let go. */
  readonly #told = new Map<SubjectKey, Subject>()
  readonly #retries = new Map<SubjectKey, Retry>()
  #arrivals = 0
  #running: Promise<void> = Promise.resolve()
  #stopTimer = () => {}
  readonly #closing = new AbortController()

  constructor(deps: PinKeeperDeps) {
    this.#deps = deps
  }

  start(): void {
    const again = () => {
      if (this.#closing.signal.aborted) return
      this.#stopTimer = this.#deps.clock.after(LOOK_MS, () => void this.keep().finally(again))
    }
    again()
  }

  close(): void {
    this.#closing.abort(new ServingError('draining', 'the server is being stopped'))
    this.#stopTimer()
  }

  /** Compares and gives the orders that are missing. Never rejects; what fails is tried again later. */
  async keep(): Promise<void> {
    const run = this.#running.then(() => this.#keep())
    this.#running = run
    await run
  }

  /**
   * One order for one version, at once, to the workers of its base model.
   * @throws ServingError as `WorkerSource.order`
   */
  async order(kind: AdapterOrderKind, { name, digest, base }: Subject, signal: AbortSignal): Promise<readonly WorkerAdapters[]> {
    const subject = { name, digest, base }
    const answers = await this.#deps.workers.order(kind, { adapter: { kind: 'registered', name, digest }, base }, signal)
    if (kind === 'pin') this.#told.set(keyOf(subject), subject)
    if (kind === 'unpin') this.#told.delete(keyOf(subject))
    this.#retries.delete(keyOf(subject))
    return answers
  }

  async #keep(): Promise<void> {
    const { workers, log } = this.#deps
    try {
      const wanted = this.#wanted()
      if (workers.arrivals !== this.#arrivals) await this.#meetWorkers(wanted)
      const unwanted = [...this.#told].filter(([key]) => !wanted.has(key))
      const missing = [...wanted].filter(([key]) => !this.#told.has(key))
      // Room first, then what needs it.
      await forEachAtMost(ORDERS_AT_ONCE, unwanted, ([, subject]) => this.#try('unpin', subject))
      await forEachAtMost(ORDERS_AT_ONCE, missing, ([, subject]) => this.#try('pin', subject))
      for (const key of this.#retries.keys()) if (!wanted.has(key) && !this.#told.has(key)) this.#retries.delete(key)
    } catch (thrown) {
      log('warn', 'pinned adapters could not be looked after now', { reason: toServingError(thrown).message })
    }
  }

  /** What workers have pinned already, from a gateway before this one, is as if they had been told by this one. */
  async #meetWorkers(wanted: ReadonlyMap<SubjectKey, Subject>): Promise<void> {
    const { workers } = this.#deps
    const { arrivals } = workers
    const told = new Map<SubjectKey, Subject>()
    const reports = await workers.adapters(this.#closing.signal)
    const bases = new Set(reports.map(({ base }) => base))
    for (const base of bases) {
      const [first, ...others] = reports.filter((report) => report.base === base).map(pinnedAt)
      for (const digest of first ?? []) {
        if (!others.every((pinned) => pinned.has(digest))) continue
        const subject = { name: PINNED_BEFORE, digest, base }
        told.set(keyOf(subject), wanted.get(keyOf(subject)) ?? subject)
      }
    }
    this.#told.clear()
    for (const [key, subject] of told) this.#told.set(key, subject)
    this.#retries.clear()
    this.#arrivals = arrivals
  }

  async #try(kind: 'pin' | 'unpin', subject: Subject): Promise<void> {
    const { clock, log } = this.#deps
    const { name, digest } = subject
    const retry = this.#retries.get(keyOf(subject))
    if (this.#closing.signal.aborted || (retry !== undefined && retry.atMs > clock.nowMs())) return
    const patience = new AbortController()
    const give = () => patience.abort(new ServingError('deadline_exceeded', 'the adapter did not arrive in time'))
    const stop = clock.after(ORDER_PATIENCE_MS, give)
    this.#closing.signal.addEventListener('abort', give, { once: true })
    try {
      await this.order(kind, subject, patience.signal)
    } catch (thrown) {
      const delayMs = retry === undefined ? FIRST_RETRY_MS : Math.min(retry.delayMs * 2, LAST_RETRY_MS)
      this.#retries.set(keyOf(subject), { atMs: clock.nowMs() + delayMs, delayMs })
      if (retry === undefined || delayMs === LAST_RETRY_MS) {
        log('warn', `adapter '${name}' cannot be ${kind}ned now: ${toServingError(thrown).message}`, { digest, retryMs: delayMs })
      }
    } finally {
      stop()
      this.#closing.signal.removeEventListener('abort', give)
    }
  }

  #wanted(): ReadonlyMap<SubjectKey, Subject> {
    const wanted = new Map<SubjectKey, Subject>()
    for (const entry of this.#deps.catalogue.entries()) {
      if (entry.record.isPinned) for (const version of pinnedVersions(entry)) wanted.set(keyOf(version), version)
    }
    return wanted
  }
}

function pinnedAt({ adapters }: WorkerAdapters): ReadonlySet<AdapterDigest> {
  return new Set(adapters.flatMap(({ digest, pinned }) => (pinned ? [parseAdapterDigest(digest)] : [])))
}

/** What of a pinned name is kept: every version that one of its aliases, or a canary, means. */
export function pinnedVersions({ record, versions }: NameEntry) {
  const numbers = new Set(
    [...record.aliases.values()].flatMap(({ version, canary }) => [version, ...(canary === undefined ? [] : [canary.version])]),
  )
  return [...numbers].flatMap((number) => (record.retired.has(number) ? [] : (versions.get(number) ?? [])))
}
