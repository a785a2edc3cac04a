import {
  type AdapterDigest,
  type AdapterRef,
  type Clock,
  type MemberRef,
  memberName,
  parseAdapterDigest,
  ServingError,
  toServingError,
} from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import type { MergeRecipe } from './merge/merge-recipe.ts'
import { resolveMerged } from './merge/resolve-merged.ts'
import { LocalOrigin } from './origin/local.ts'
import type { OriginAdapter, OriginLimits } from './origin/origin.ts'
import { openRemotes, type RemoteAccess } from './origin/remote.ts'
import { StoredOrigin } from './origin/stored.ts'
import type { ObjectStore } from './store/object-store.ts'

/** Where the bytes of resolved adapters can be found; each costs some 500 bytes. */
const FOUND_REMEMBERED = 10_000

export interface AdapterIdentity {
  readonly digest: AdapterDigest
  /** As the request said it. */
  readonly name: string
  /** Of a merged adapter: what its weights are made of when no tier has them. */
  readonly recipe?: MergeRecipe
}

export interface OriginsDeps {
  readonly store: ObjectStore
  readonly localRoots: readonly string[]
  /** Absent: `hub` and `s3` are refused. */
  readonly remote?: RemoteAccess | undefined
  readonly clock: Clock
}

/** All origins together: which digest a reference means, and where the bytes of a digest are. */
export class AdapterOrigins {
  readonly #local: LocalOrigin
  readonly #stored: StoredOrigin
  readonly #foundByDigest = new LRUCache<AdapterDigest, OriginAdapter>({ max: FOUND_REMEMBERED })

  readonly #remotes: ReturnType<typeof openRemotes> | undefined

  /** @throws ServingError `invalid_request` when an allowed bucket cannot be one */
  constructor({ store, localRoots, remote, clock }: OriginsDeps, limits: OriginLimits) {
    this.#local = new LocalOrigin(localRoots, limits)
    this.#stored = new StoredOrigin(store, limits)
    this.#remotes = remote === undefined ? undefined : openRemotes(remote, limits, clock)
  }

  /** @throws ServingError as `AdapterCache.resolve` */
  async resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity> {
    return ref.kind === 'merged' ? await resolveMerged(ref, (member) => this.#resolveOne(member)) : await this.#resolveOne(ref)
  }

  /**
   * The place where this content was last seen, then the store: it may have gone from there, and may be registered too. Whoever
   * asks for a digest has been allowed to: it was found for this very request, or the catalogue gave it.
   */
  at(digest: AdapterDigest): OriginAdapter {
    const stored = this.#stored.at(digest)
    const found = this.#foundByDigest.get(digest)
    if (found === undefined) return stored
    const fetch: OriginAdapter['fetch'] = async (signal) => {
      try {
        return await found.fetch(signal)
      } catch (fromThere) {
        if (signal.aborted) throw fromThere
        if (this.#foundByDigest.peek(digest) === found) this.#foundByDigest.delete(digest)
        return await stored.fetch(signal).catch((fromStore: unknown) => {
          throw toServingError(fromStore).code === 'adapter_not_found' ? fromThere : fromStore
        })
      }
    }
    return { digest, fetch }
  }

  async #resolveOne(ref: MemberRef): Promise<AdapterIdentity> {
    if (ref.kind === 'registered') return { digest: parseAdapterDigest(ref.digest), name: ref.name }
    const found = await this.#find(ref)
    this.#foundByDigest.set(found.digest, found)
    return { digest: found.digest, name: memberName(ref) }
  }

  async #find(ref: Exclude<MemberRef, { kind: 'registered' }>): Promise<OriginAdapter> {
    if (ref.kind === 'local') return await this.#local.resolve(ref.path)
    if (this.#remotes === undefined) {
      throw new ServingError(
        'forbidden',
        `adapters from ${ref.kind === 'hub' ? 'the hub' : 'S3'} are switched off on this worker`,
      )
    }
    return ref.kind === 'hub' ? await this.#remotes.hub.resolve(ref) : await this.#remotes.buckets.resolve(ref)
  }
}
