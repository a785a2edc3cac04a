import type { AdapterCache } from '@quiver/cache'
import {
  type AdapterDigest,
  type AdapterOrder,
  type AdapterOrderKind,
  type AdapterPresences,
  assertNever,
  ServingError,
} from '@quiver/protocol'
import type { AdapterActions } from './adapter-routes.ts'

type Cache = Pick<AdapterCache, 'resolve' | 'prefetch' | 'pin' | 'unpin' | 'lift' | 'presences'>

/** What gateways ask and order about adapters, carried out by the cache. */
export class AdapterService implements AdapterActions {
  readonly #cache: Cache

  constructor(cache: Cache) {
    this.#cache = cache
  }

  adapters(digest?: AdapterDigest): AdapterPresences {
    return this.#cache.presences(digest)
  }

  async order(kind: AdapterOrderKind, { adapter }: AdapterOrder, signal: AbortSignal): Promise<AdapterPresences> {
    if (adapter.kind === 'base') {
      throw new ServingError('invalid_request', 'the base model is always there: name an adapter')
    }
    const identity = await this.#cache.resolve(adapter)
    signal.throwIfAborted()
    await this.#carryOut(kind, identity, signal)
    return this.#cache.presences(identity.digest)
  }

  async #carryOut(kind: AdapterOrderKind, identity: Parameters<Cache['pin']>[0], signal: AbortSignal): Promise<void> {
    switch (kind) {
      case 'prefetch':
        return await this.#cache.prefetch(identity, signal)
      case 'pin':
        return await this.#cache.pin(identity, signal)
      case 'unpin':
        return this.#cache.unpin(identity.digest)
      case 'lift':
        return await this.#cache.lift(identity.digest)
      default:
        return assertNever(kind)
    }
  }
}
