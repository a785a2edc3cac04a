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
import type { Catalogue } from '../catalogue/catalogue.ts'
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
  readonly catalogue: Pick<Catalogue, 'entries' | 'entry'>
  readonly workers: Pick<WorkerSource, 'arrivals' | 'adapters' | 'order'>
  readonly clock: TimerClock
  readonly log: Logger
}

interface Retry {
  readonly atMs: number
  readonly delayMs: number
}

/**
 * Sees to it that workers have pinned what the catalogue says: after a pin or unpin, when an alias moves, when another gateway changed
 * something, and again for every worker that becomes ready, since a worker's pins end with it. Works by comparing, so that nothing
 * depends on having heard of a change.
 */
export class PinKeeper {
  readonly #deps: PinKeeperDeps
  /** What the workers of these arrivals were told to pin and have not been told to let go. */
  readonly #told = new Map<AdapterDigest, AdapterName>()
  readonly #retries = new Map<AdapterDigest, Retry>()
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
   * One order for one version, at once.
   * @throws ServingError as `WorkerSource.order`
   */
  async order(
    kind: AdapterOrderKind,
    { name, digest }: { readonly name: AdapterName; readonly digest: AdapterDigest },
    signal: AbortSignal,
  ): Promise<readonly WorkerAdapters[]> {
    const answers = await this.#deps.workers.order(kind, { adapter: { kind: 'registered', name, digest } }, signal)
    if (kind === 'pin') this.#told.set(digest, name)
    if (kind === 'unpin') this.#told.delete(digest)
    this.#retries.delete(digest)
    return answers
  }

  async #keep(): Promise<void> {
    const { workers, log } = this.#deps
    try {
      const wanted = this.#wanted()
      if (workers.arrivals !== this.#arrivals) await this.#meetWorkers()
      const unwanted = [...this.#told].filter(([digest]) => !wanted.has(digest))
      const missing = [...wanted].filter(([digest]) => !this.#told.has(digest))
      // Room first, then what needs it.
      await forEachAtMost(ORDERS_AT_ONCE, unwanted, ([digest, name]) => this.#try('unpin', digest, name))
      await forEachAtMost(ORDERS_AT_ONCE, missing, ([digest, name]) => this.#try('pin', digest, name))
      for (const digest of this.#retries.keys()) if (!wanted.has(digest) && !this.#told.has(digest)) this.#retries.delete(digest)
    } catch (thrown) {
      log('warn', 'pinned adapters could not be looked after now', { reason: toServingError(thrown).message })
    }
  }

  /** What a worker has pinned already, from a gateway before this one, is as if it had been told by this one. */
  async #meetWorkers(): Promise<void> {
    const { workers } = this.#deps
    const { arrivals } = workers
    const told = new Map<AdapterDigest, AdapterName>()
    const reports = await workers.adapters(this.#closing.signal)
    const everywhere = (digest: string) =>
      reports.every(({ adapters }) => adapters.some((one) => one.digest === digest && one.pinned))
    for (const { adapters } of reports) {
      for (const { digest, pinned } of adapters) {
        if (pinned && everywhere(digest)) told.set(parseAdapterDigest(digest), PINNED_BEFORE)
      }
    }
    this.#told.clear()
    for (const [digest, name] of told) this.#told.set(digest, name)
    this.#retries.clear()
    this.#arrivals = arrivals
  }

  async #try(kind: 'pin' | 'unpin', digest: AdapterDigest, name: AdapterName): Promise<void> {
    const { clock, log } = this.#deps
    const retry = this.#retries.get(digest)
    if (this.#closing.signal.aborted || (retry !== undefined && retry.atMs > clock.nowMs())) return
    const patience = new AbortController()
    const give = () => patience.abort(new ServingError('deadline_exceeded', 'the adapter did not arrive in time'))
    const stop = clock.after(ORDER_PATIENCE_MS, give)
    this.#closing.signal.addEventListener('abort', give, { once: true })
    try {
      await this.order(kind, { name, digest }, patience.signal)
    } catch (thrown) {
      const delayMs = retry === undefined ? FIRST_RETRY_MS : Math.min(retry.delayMs * 2, LAST_RETRY_MS)
      this.#retries.set(digest, { atMs: clock.nowMs() + delayMs, delayMs })
      if (retry === undefined || delayMs === LAST_RETRY_MS) {
        log('warn', `adapter '${name}' cannot be ${kind}ned now: ${toServingError(thrown).message}`, { digest, retryMs: delayMs })
      }
    } finally {
      stop()
      this.#closing.signal.removeEventListener('abort', give)
    }
  }

  #wanted(): ReadonlyMap<AdapterDigest, AdapterName> {
    const wanted = new Map<AdapterDigest, AdapterName>()
    for (const entry of this.#deps.catalogue.entries()) {
      if (entry.record.isPinned) for (const { digest, name } of pinnedVersions(entry)) wanted.set(digest, name)
    }
    return wanted
  }
}

/** What of a pinned name is kept: every version that one of its aliases, or a canary, means. */
export function pinnedVersions({ record, versions }: NameEntry) {
  const numbers = new Set(
    [...record.aliases.values()].flatMap(({ version, canary }) => [version, ...(canary === undefined ? [] : [canary.version])]),
  )
  return [...numbers].flatMap((number) => (record.retired.has(number) ? [] : (versions.get(number) ?? [])))
}
