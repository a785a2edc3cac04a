/**
 * Adapters in folders of S3 buckets that the operator allows. The folder is named exactly; nothing is ever listed, so `sql` cannot
 * bring what lies under `sql-v2`.
 */
import { type Clock, ServingError, type Timers } from '@quiver/protocol'
import type { ObjectStore } from '../store/object-store.ts'
import { isStoreKey } from '../store/store-key.ts'
import { shown } from './jail.ts'
import type { FoundAdapter, Origin, OriginLimits } from './origin.ts'
import { ResolutionMemory } from './resolution-memory.ts'
import { StoredFolders } from './stored-folder.ts'
import { withinBudget } from './time-budget.ts'

/** How long the etags of a folder are believed: what is put there is served at most this much later. */
const BELIEVED_MS = 5_000
/** For finding out a folder's digest, which may take reading it. */
const FIND_BUDGET_MS = 120_000
/** S3's rules for names of buckets, which also keep them from being anything else in a URL. */
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/

/** Which buckets requests may name, and how to reach one. */
export interface BucketAccess {
  /** `bucket` or `bucket/prefix`, which allows what lies below that folder. */
  readonly allowed: readonly string[]
  /** A store whose keys are those of the bucket. Asked once for each bucket. */
  open(bucket: string): Promise<ObjectStore>
}

export interface BucketPlace {
  readonly bucket: string
  /** Without a `/` at either end; empty: the bucket itself. */
  readonly prefix: string
}

/**
 * `s3://bucket/prefix/path` or `bucket/prefix/path`, of the folder that holds the two files.
 * @throws ServingError `invalid_request` for anything else
 */
export function parseBucketPlace(uri: string): BucketPlace {
  const [bucket = '', ...path] = uri
    .replace(/^s3:\/\//i, '')
    .replace(/\/$/, '')
    .split('/')
  const isPlace =
    uri.length <= 1200 &&
    BUCKET.test(bucket) &&
    !bucket.includes('..') &&
    isStoreKey([...path, 'adapter_model.safetensors'].join('/'))
  if (isPlace) return { bucket, prefix: path.join('/') }
  throw new ServingError(
    'invalid_request',
    `${shown(uri)} is not a folder in a bucket: write s3://bucket/path with letters, digits and _ . = @ + , ! ( ) - in its parts`,
  )
}

export class BucketOrigin implements Origin<{ readonly uri: string }> {
  readonly #access: BucketAccess
  readonly #allowed: readonly BucketPlace[]
  readonly #timers: Timers
  readonly #folders: StoredFolders
  readonly #memory: ResolutionMemory<FoundAdapter>
  /** As many as there are allowed buckets at most. */
  readonly #stores = new Map<string, Promise<ObjectStore>>()

  /** @throws ServingError `invalid_request` when what is allowed is no bucket */
  constructor(access: BucketAccess, limits: OriginLimits, { clock, timers }: { readonly clock: Clock; readonly timers: Timers }) {
    this.#access = access
    this.#allowed = access.allowed.map(parseBucketPlace)
    this.#timers = timers
    this.#folders = new StoredFolders(limits, timers)
    this.#memory = new ResolutionMemory(clock, BELIEVED_MS)
  }

  /** @throws ServingError `invalid_request`, `forbidden` (not an allowed bucket), and as `Origin` says */
  async resolve({ uri }: { readonly uri: string }): Promise<FoundAdapter> {
    const place = parseBucketPlace(uri)
    if (this.#allowed.length === 0) {
      throw new ServingError('forbidden', 'adapters from S3 are switched off: name their buckets in QUIVER_S3_BUCKETS')
    }
    if (!this.#allowed.some((allowed) => isBelow(place, allowed))) {
      throw new ServingError('forbidden', `${shown(uri)} is outside of the buckets from which adapters may be loaded`)
    }
    const canonical = `s3://${place.bucket}${place.prefix === '' ? '' : `/${place.prefix}`}`
    return await this.#memory.get(canonical, () => this.#find(place, canonical))
  }

  async #find({ bucket, prefix }: BucketPlace, uri: string): Promise<FoundAdapter> {
    const store = await this.#open(bucket)
    const budget = {
      budgetMs: FIND_BUDGET_MS,
      timers: this.#timers,
      signal: new AbortController().signal,
      what: `reading ${shown(uri)}`,
    }
    return await withinBudget(budget, (signal) =>
      this.#folders.find(
        { store, prefix, said: shown(uri), provenance: (etags) => ({ type: 's3', uri, revision: etags.weights, etags }) },
        signal,
      ),
    )
  }

  async #open(bucket: string): Promise<ObjectStore> {
    const known = this.#stores.get(bucket)
    if (known !== undefined) return await known
    const opening = this.#access.open(bucket)
    this.#stores.set(bucket, opening)
    // A store that could not be opened may be the next time.
    opening.catch(() => this.#stores.delete(bucket))
    return await opening
  }
}

/** By whole segments: a bucket `a/sql` does not allow `a/sql-v2`. */
function isBelow({ bucket, prefix }: BucketPlace, allowed: BucketPlace): boolean {
  if (bucket !== allowed.bucket) return false
  return allowed.prefix === '' || prefix === allowed.prefix || prefix.startsWith(`${allowed.prefix}/`)
}
