import { type Clock, type Logger, ServingError } from '@quiver/protocol'
import type { GetOptions, ListOptions, ObjectEntry, ObjectStore, PutOptions, StoredObject } from './object-store.ts'

/** Whether the store answers, as far as is known from the requests that were made of it. */
export type StoreHealth = { readonly status: 'ok' } | { readonly status: 'failing'; readonly reason: string }

/** A store that fails is asked this often whether it is back, when somebody asks for its health. */
const PROBE_MS = 5_000
/** No object has this key; that the store says so is an answer. */
const PROBE_KEY = 'quiver-probe'

/** An object store that remembers whether it answers, and says in the log when that changes. */
export class WatchedStore implements ObjectStore {
  readonly #store: ObjectStore
  readonly #clock: Clock
  readonly #log: Logger | undefined
  #health: StoreHealth = { status: 'ok' }
  #probedAtMs = Number.NEGATIVE_INFINITY

  constructor(store: ObjectStore, { clock, log }: { readonly clock: Clock; readonly log?: Logger }) {
    this.#store = store
    this.#clock = clock
    this.#log = log
  }

  /** What is known now. While the store fails, asking this also has it tried again, in the background and not too often. */
  health(): StoreHealth {
    if (this.#health.status === 'failing' && this.#clock.nowMs() - this.#probedAtMs >= PROBE_MS) void this.probe()
    return this.#health
  }

  /** Asks for an object that is not there. Never fails: what comes of it is the health. */
  async probe(): Promise<StoreHealth> {
    this.#probedAtMs = this.#clock.nowMs()
    await this.head(PROBE_KEY).catch(() => undefined)
    return this.#health
  }

  async get(key: string, options?: GetOptions): Promise<StoredObject> {
    return await this.#watch(() => this.#store.get(key, options))
  }

  async head(key: string): Promise<ObjectEntry> {
    return await this.#watch(() => this.#store.head(key))
  }

  async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<{ readonly etag: string }> {
    return await this.#watch(() => this.#store.put(key, bytes, options))
  }

  async *list(prefix: string, options?: ListOptions): AsyncIterable<ObjectEntry> {
    try {
      for await (const entry of this.#store.list(prefix, options)) yield entry
      this.#succeeded()
    } catch (thrown) {
      this.#failed(thrown)
      throw thrown
    }
  }

  async delete(key: string): Promise<void> {
    await this.#watch(() => this.#store.delete(key))
  }

  async #watch<T>(work: () => Promise<T>): Promise<T> {
    try {
      const result = await work()
      this.#succeeded()
      return result
    } catch (thrown) {
      this.#failed(thrown)
      throw thrown
    }
  }

  #succeeded(): void {
    if (this.#health.status === 'ok') return
    this.#health = { status: 'ok' }
    this.#log?.('info', 'the object store answers again', {})
  }

  /** A failure with the store's reason says something about the store; without one it is about an object, or the caller. */
  #failed(thrown: unknown): void {
    if (!(thrown instanceof ServingError)) return
    const { code, message, context } = thrown
    if (code === 'not_found' || code === 'conflict') this.#succeeded()
    if (code !== 'source_unavailable' || context['reason'] === undefined) return
    if (this.#health.status === 'ok') this.#log?.('warn', message, context)
    this.#health = { status: 'failing', reason: message }
  }
}
