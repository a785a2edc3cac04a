import { type AdapterDigest, type AdapterRef, type MemberRef, parseAdapterDigest, toServingError } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import type { MergeRecipe } from './merge/merge-recipe.ts'
import { resolveMerged } from './merge/resolve-merged.ts'
import { LocalOrigin } from './origin/local.ts'
import type { OriginAdapter, OriginLimits } from './origin/origin.ts'
import { StoredOrigin } from './origin/stored.ts'
import type { ObjectStore } from './store/object-store.ts'

/** Where the bytes of resolved local adapters can be found; each costs some 200 bytes. */
const LOCAL_REMEMBERED = 10_000

export interface AdapterIdentity {
  readonly digest: AdapterDigest
  /** As the request said it. */
  readonly name: string
  /** Of a merged adapter: what its weights are made of when no tier has them. */
  readonly recipe?: MergeRecipe
}

/** All origins together: which digest a reference means, and where the bytes of a digest are. */
export class AdapterOrigins {
  readonly #local: LocalOrigin
  readonly #stored: StoredOrigin
  readonly #localByDigest = new LRUCache<AdapterDigest, OriginAdapter>({ max: LOCAL_REMEMBERED })

  constructor(from: { readonly store: ObjectStore; readonly localRoots: readonly string[] }, limits: OriginLimits) {
    this.#local = new LocalOrigin(from.localRoots, limits)
    this.#stored = new StoredOrigin(from.store, limits)
  }

  /** @throws ServingError as `AdapterCache.resolve` */
  async resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity> {
    return ref.kind === 'merged' ? await resolveMerged(ref, (member) => this.#resolveOne(member)) : await this.#resolveOne(ref)
  }

  /** A folder where this content was seen, then the store: the folder may have gone, and the content may be registered too. */
  at(digest: AdapterDigest): OriginAdapter {
    const stored = this.#stored.at(digest)
    const local = this.#localByDigest.get(digest)
    if (local === undefined) return stored
    const fetch: OriginAdapter['fetch'] = async (signal) => {
      try {
        return await local.fetch(signal)
      } catch (fromFolder) {
        if (signal.aborted) throw fromFolder
        if (this.#localByDigest.peek(digest) === local) this.#localByDigest.delete(digest)
        return await stored.fetch(signal).catch((fromStore: unknown) => {
          throw toServingError(fromStore).code === 'adapter_not_found' ? fromFolder : fromStore
        })
      }
    }
    return { digest, fetch }
  }

  async #resolveOne(ref: MemberRef): Promise<AdapterIdentity> {
    if (ref.kind === 'registered') return { digest: parseAdapterDigest(ref.digest), name: ref.name }
    const found = await this.#local.resolve(ref.path)
    this.#localByDigest.set(found.digest, found)
    return { digest: found.digest, name: ref.path }
  }
}
