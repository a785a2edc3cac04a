import type { AdapterCache, AdapterLease } from '@quiver/cache'
import { type AdapterDigest, type Logger, type ServingError, type SlotIndex, toServingError } from '@quiver/protocol'

export interface SlotLoadsDeps {
  readonly cache: Pick<AdapterCache, 'loadIntoSlot'>
  readonly log: Logger
  loaded(): void
  /** Nobody who waits for the adapter can be served. */
  failed(digest: AdapterDigest, error: ServingError): void
}

/** Loads into slots that are under way, beside whatever computes. */
export class SlotLoads {
  readonly #deps: SlotLoadsDeps
  readonly #loads = new Set<Promise<void>>()

  constructor(deps: SlotLoadsDeps) {
    this.#deps = deps
  }

  get count(): number {
    return this.#loads.size
  }

  start(lease: AdapterLease, slot: SlotIndex): void {
    const { cache, log, loaded, failed } = this.#deps
    const { digest } = lease
    const load = cache.loadIntoSlot(lease, slot).then(loaded, (thrown: unknown) => {
      log('warn', 'an adapter could not be put into a slot', { digest, slot, cause: String(thrown) })
      failed(digest, toServingError(thrown))
    })
    this.#loads.add(load)
    void load.finally(() => this.#loads.delete(load))
  }

  /** Resolves when those under way have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#loads)
  }
}
