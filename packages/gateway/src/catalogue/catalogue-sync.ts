import { type AdapterName, type Logger, parseAdapterName, ServingError, toServingError } from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { Catalogue } from './catalogue.ts'
import type { ChangeFeed } from './change-feed.ts'

/** Names that wait to be looked at; more are one look at everything. */
const WAITING_NAMES = 256
/** Pauses differ by up to this share, so that gateways do not list the store all at once. */
const JITTER = 0.2

export interface CatalogueSyncDeps {
  readonly catalogue: Pick<Catalogue, 'refresh' | 'refreshName'>
  readonly clock: TimerClock
  /** 0 … 1, as `Math.random`. */
  readonly random: () => number
  readonly log: Logger
  /** Says at once what others change; without it the next look finds it. */
  readonly feed?: ChangeFeed | undefined
  /** Between two looks at the whole store. */
  readonly refreshMs: number
}

/**
 * Keeps a catalogue in step with what other processes change: names that the feed tells of at once, everything now and then.
 * While the store cannot be reached, what is known goes on being served.
 */
export class CatalogueSync {
  readonly #deps: CatalogueSyncDeps
  readonly #waiting = new Set<AdapterName>()
  #isAllWaiting = false
  #working: Promise<void> | undefined
  #isClosed = false
  #failedAtMs: number | undefined
  #stopTimer = () => {}
  #unsubscribe = () => {}

  constructor(deps: CatalogueSyncDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#unsubscribe =
      this.#deps.feed?.subscribe({ onChange: (name) => this.#changed(name), onGap: () => void this.#lookAtAll() }) ?? (() => {})
    this.#schedule()
  }

  close(): void {
    this.#isClosed = true
    this.#stopTimer()
    this.#unsubscribe()
  }

  /** Milliseconds for which the store could not be read; 0 when the last look succeeded. */
  staleMs(): number {
    return this.#failedAtMs === undefined ? 0 : this.#deps.clock.nowMs() - this.#failedAtMs
  }

  #schedule(): void {
    const { clock, random, refreshMs } = this.#deps
    this.#stopTimer = clock.after(refreshMs * (1 + JITTER * (random() - 0.5)), () => {
      if (this.#isClosed) return
      void this.#lookAtAll()
      this.#schedule()
    })
  }

  #lookAtAll(): Promise<void> {
    this.#isAllWaiting = true
    this.#waiting.clear()
    return this.#work()
  }

  /** Settled when the name was looked at. */
  async #changed(text: string): Promise<void> {
    if (this.#isAllWaiting) return await this.#work()
    try {
      this.#waiting.add(parseAdapterName(text))
    } catch {
      // From something else on the same channel, or a later version: the next look finds whatever it is about.
      return
    }
    await (this.#waiting.size > WAITING_NAMES ? this.#lookAtAll() : this.#work())
  }

  /** One look after the other: what changes in the meantime waits, each name once. */
  #work(): Promise<void> {
    if (this.#isClosed) return Promise.resolve()
    this.#working ??= this.#lookAtWaiting()
    return this.#working
  }

  /** Only where something waits. */
  async #lookAtWaiting(): Promise<void> {
    do await this.#look()
    while (!this.#isClosed && (this.#isAllWaiting || this.#waiting.size > 0))
    // In the same moment in which nothing waited any more: whoever comes next must not be told to wait for this.
    this.#working = undefined
  }

  async #look(): Promise<void> {
    const { catalogue, clock, log } = this.#deps
    const [name] = this.#waiting
    const isAll = this.#isAllWaiting
    this.#isAllWaiting = false
    if (name !== undefined) this.#waiting.delete(name)
    try {
      if (isAll || name === undefined) await catalogue.refresh()
      else await catalogue.refreshName(name)
      if (this.#failedAtMs !== undefined) log('info', 'the catalogue can be read from the store again')
      this.#failedAtMs = undefined
    } catch (error) {
      if (!(error instanceof ServingError)) log('error', 'the catalogue could not be refreshed', { error: String(error) })
      if (this.#failedAtMs === undefined) {
        const { message } = toServingError(error)
        log('warn', 'the catalogue cannot be read from the store: adapters are served as they were last known', {
          reason: message,
        })
        this.#failedAtMs = clock.nowMs()
      }
    }
  }
}
