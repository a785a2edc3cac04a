import { type AdapterDigest, ServingError } from '@quiver/protocol'
import type { AdapterIdentity } from './adapter-origins.ts'
import type { AdapterLease } from './lease.ts'

/** Adapters that are loaded without a request at once; each may fill memory when it comes. */
const PREFETCHES_AT_ONCE = 64

export interface AdapterOrdersDeps {
  readonly lease: (identity: AdapterIdentity) => AdapterLease
  /** What pinned adapters may take of memory together, in bytes. */
  readonly pinnedBytesAtMost: number
  /** Keeps a packed file on disk, or lets it go. */
  readonly keepOnDisk: (digest: AdapterDigest, kept: boolean) => void
}

/** What operators and those who look ahead want of adapters: to be fetched before anybody asks, and to stay. Both are leases without a request. */
export class AdapterOrders {
  readonly #deps: AdapterOrdersDeps
  readonly #pins = new Map<AdapterDigest, AdapterLease>()
  /** Pins on their way; one that has gone from here meanwhile was unpinned. */
  readonly #pinning = new Map<AdapterDigest, symbol>()
  readonly #prefetches = new Set<AdapterLease>()
  #pinnedBytes = 0

  constructor(deps: AdapterOrdersDeps) {
    this.#deps = deps
  }

  get pinnedBytes(): number {
    return this.#pinnedBytes
  }

  get pinned(): ReadonlySet<AdapterDigest> {
    return new Set(this.#pins.keys())
  }

  isPinned(digest: AdapterDigest): boolean {
    return this.#pins.has(digest)
  }

  /** Leases of this adapter that no request holds. */
  leasesOf(digest: AdapterDigest): number {
    const prefetches = [...this.#prefetches].filter((lease) => lease.digest === digest && lease.state === 'ready')
    return prefetches.length + (this.#pins.has(digest) ? 1 : 0)
  }

  /** @throws ServingError why it cannot be had, `overloaded`, or `client_closed` when aborted */
  async prefetch(identity: AdapterIdentity, signal: AbortSignal): Promise<void> {
    const lease = this.#begin(identity)
    await this.#arrival(lease, signal)
    this.#end(lease)
  }

  /** Goes on with a load whose last request cannot wait any longer. Beyond the bound it ends with that request. */
  carryOn(identity: AdapterIdentity): void {
    const isUnderWay = [...this.#prefetches].some(({ digest, state }) => digest === identity.digest && state === 'arriving')
    if (isUnderWay || this.#prefetches.size >= PREFETCHES_AT_ONCE) return
    const lease = this.#begin(identity)
    const end = (): void => this.#end(lease)
    lease.ready.then(end, end)
  }

  /** @throws ServingError as `prefetch`; `conflict` when pins would take too much of memory, or when it is unpinned meanwhile */
  async pin(identity: AdapterIdentity, signal: AbortSignal): Promise<void> {
    const { digest } = identity
    if (this.#pins.has(digest)) return
    const wish = Symbol('pin')
    this.#pinning.set(digest, wish)
    const lease = this.#begin(identity)
    try {
      await this.#arrival(lease, signal)
      // A pin of the same adapter may have come first.
      if (this.#pins.has(digest)) return
      if (!this.#pinning.has(digest))
        throw new ServingError('conflict', `adapter ${identity.name} was unpinned while it was loaded`)
      this.#take(identity, lease)
    } finally {
      if (this.#pinning.get(digest) === wish) this.#pinning.delete(digest)
      this.#prefetches.delete(lease)
      if (this.#pins.get(digest) !== lease) lease.release()
    }
  }

  unpin(digest: AdapterDigest): void {
    this.#pinning.delete(digest)
    const lease = this.#pins.get(digest)
    if (lease === undefined) return
    this.#pins.delete(digest)
    this.#pinnedBytes -= lease.packed.bytes
    this.#deps.keepOnDisk(digest, false)
    lease.release()
  }

  /** Ends prefetches and pins. */
  close(): void {
    for (const digest of [...this.#pins.keys()]) this.unpin(digest)
    for (const lease of [...this.#prefetches]) this.#end(lease)
  }

  #take({ digest, name }: AdapterIdentity, lease: AdapterLease): void {
    const { bytes } = lease.packed
    const { pinnedBytesAtMost, keepOnDisk } = this.#deps
    if (this.#pinnedBytes + bytes > pinnedBytesAtMost) {
      throw new ServingError(
        'conflict',
        `adapter ${name} (${bytes} bytes) cannot be pinned: pinned adapters may take ${pinnedBytesAtMost} bytes of memory and take ` +
          `${this.#pinnedBytes}; unpin another one or raise QUIVER_RAM_BYTES`,
      )
    }
    this.#pins.set(digest, lease)
    this.#pinnedBytes += bytes
    keepOnDisk(digest, true)
  }

  #begin(identity: AdapterIdentity): AdapterLease {
    if (this.#prefetches.size >= PREFETCHES_AT_ONCE) {
      throw new ServingError('overloaded', `${PREFETCHES_AT_ONCE} adapters are being fetched ahead already: try again later`)
    }
    const lease = this.#deps.lease(identity)
    this.#prefetches.add(lease)
    return lease
  }

  #end(lease: AdapterLease): void {
    this.#prefetches.delete(lease)
    lease.release()
  }

  async #arrival(lease: AdapterLease, signal: AbortSignal): Promise<void> {
    const leave = (): void => this.#end(lease)
    signal.addEventListener('abort', leave, { once: true })
    if (signal.aborted) leave()
    try {
      await lease.ready
    } catch (thrown) {
      this.#end(lease)
      throw thrown
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }
}
