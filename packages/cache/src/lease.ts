import assert from 'node:assert/strict'
import { type AdapterDigest, ServingError } from '@quiver/protocol'
import type { PackedAdapter } from './format/packed-adapter.ts'

/**
 * A counted right to use an adapter. From `ready` until `release` its packed weights stay in RAM.
 * `state` goes arriving → ready → released, or arriving → failed → released; a late result never leaves `released`.
 */
export interface AdapterLease {
  readonly digest: AdapterDigest
  readonly name: string
  readonly state: 'arriving' | 'ready' | 'failed' | 'released'
  /** Resolves when ready; rejects with the ServingError that made it fail, or `client_closed` when released before. Never unhandled. */
  readonly ready: Promise<void>
  /** The weights. Asserts that the lease is ready. */
  readonly packed: PackedAdapter
  /** Idempotent. The last release of an arriving adapter cancels its load. */
  release(): void
  /** Like `release`, but a load under way goes on, so that whoever asks again finds the adapter. */
  releaseLoading(): void
}

/** What a lease tells its cache when it ends. */
export interface LeaseEnds {
  /** Released while arriving: leave the load. */
  leave(): void
  /** About to leave a load that is to go on. */
  carryOn(): void
  /** Released while ready: the adapter in RAM is held once less. */
  drop(): void
}

/** The cache's side of a lease: it alone says when the weights are there. */
export class TierLease implements AdapterLease {
  readonly digest: AdapterDigest
  readonly name: string
  readonly ready: Promise<void>
  readonly #settle: PromiseWithResolvers<void> = Promise.withResolvers()
  readonly #ends: LeaseEnds
  #state: AdapterLease['state'] = 'arriving'
  #packed: PackedAdapter | undefined

  constructor({ digest, name }: { digest: AdapterDigest; name: string }, ends: LeaseEnds) {
    this.digest = digest
    this.name = name
    this.#ends = ends
    this.ready = this.#settle.promise
    // A lease whose `ready` nobody awaits must not bring the process down.
    this.ready.catch(() => undefined)
  }

  get state(): AdapterLease['state'] {
    return this.#state
  }

  get packed(): PackedAdapter {
    assert(this.#state === 'ready' && this.#packed !== undefined, 'weights are read under a ready lease')
    return this.#packed
  }

  /** The weights are in RAM and held there for this lease. */
  arrived(packed: PackedAdapter): void {
    assert(this.#state === 'arriving', 'only an arriving adapter arrives')
    this.#packed = packed
    this.#state = 'ready'
    this.#settle.resolve()
  }

  failed(cause: ServingError): void {
    assert(this.#state === 'arriving', 'only an arriving adapter fails')
    this.#state = 'failed'
    this.#settle.reject(cause)
  }

  releaseLoading(): void {
    if (this.#state === 'arriving') this.#ends.carryOn()
    this.release()
  }

  release(): void {
    const before = this.#state
    if (before === 'released') return
    this.#state = 'released'
    this.#packed = undefined
    if (before === 'ready') this.#ends.drop()
    if (before !== 'arriving') return
    this.#ends.leave()
    this.#settle.reject(new ServingError('client_closed', `the lease of adapter ${this.digest} was released before it arrived`))
  }
}
