/** Adapters for registration: whatever a publisher names, its bytes with where they came from. */
import { type AdapterDigest, type Clock, hubTokenSchema, parseAdapterDigest, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { AdapterFiles } from '../format/inspect.ts'
import type { ObjectStore } from '../store/object-store.ts'
import { isStoreKey } from '../store/store-key.ts'
import { shown } from './jail.ts'
import { LocalOrigin } from './local.ts'
import type { FoundAdapter, OriginLimits, Provenance } from './origin.ts'
import { openRemotes, type RemoteAccess } from './remote.ts'
import { StoredOrigin } from './stored.ts'
import { StoredFolders } from './stored-folder.ts'

const place = z.string().min(1).max(1200)

/** What a publisher may name as the source of an adapter. */
export const adapterSourceSchema = z.discriminatedUnion('type', [
  /** `id`: `org/name` or `org/name@revision`; without a revision, `main`. */
  z.object({ type: z.literal('hub'), id: place, revision: place.optional(), token: hubTokenSchema.optional() }),
  z.object({ type: z.literal('s3'), uri: place }),
  /** A folder of the machine that reads it, below a local root. */
  z.object({ type: z.literal('local'), path: place }),
  /** A digest that the store has already, with or without `sha256:` before it, or the folder of the two files as a key prefix. */
  z.object({ type: z.literal('store'), uri: place }),
])
export type AdapterSource = z.infer<typeof adapterSourceSchema>

export interface SourceDeps {
  readonly limits: OriginLimits
  readonly clock: Clock
  readonly remote: RemoteAccess
  /** Absolute folders below which `local` sources may lie. */
  readonly localRoots: readonly string[]
  /** The server's own store. */
  readonly store: ObjectStore
}

export interface FetchedSource extends AdapterFiles {
  /** Of these very files; whether they fit a base model is for `inspectAdapter` to say. */
  readonly digest: AdapterDigest
  readonly chatTemplate?: string
  readonly provenance: Provenance
}

/**
 * Finds an adapter and reads it. Sizes are judged before anything of that size is read, and no file but the two of the adapter and its
 * chat template is ever opened.
 * @throws ServingError `invalid_request` (a source that cannot be one), `adapter_not_found`, `adapter_invalid`, `forbidden`, `too_large`,
 * `conflict` (changed meanwhile), `source_unavailable`, or `client_closed` when `signal` is aborted
 * @example const { config, weights, provenance } = await fetchSource({ type: 'hub', id: 'acme/sql' }, deps, signal)
 */
export async function fetchSource(source: AdapterSource, deps: SourceDeps, signal: AbortSignal): Promise<FetchedSource> {
  const found = await find(source, deps, signal)
  throwIfAborted(signal)
  const files = await found.fetch(signal)
  const chatTemplate = await found.chatTemplate(signal)
  throwIfAborted(signal)
  const { digest, provenance } = found
  return { ...files, digest, provenance, ...(chatTemplate === undefined ? {} : { chatTemplate }) }
}

async function find(source: AdapterSource, deps: SourceDeps, signal: AbortSignal): Promise<FoundAdapter> {
  const { limits, clock, remote, localRoots, store } = deps
  throwIfAborted(signal)
  switch (source.type) {
    case 'hub':
      return await openRemotes(remote, limits, clock).hub.resolve(source)
    case 's3':
      return await openRemotes(remote, limits, clock).buckets.resolve(source)
    case 'local':
      return await new LocalOrigin(localRoots, limits).resolve(source.path)
    case 'store': {
      const digest = /^(?:sha256:)?([0-9a-f]{64})$/.exec(source.uri)?.[1]
      if (digest !== undefined) return new StoredOrigin(store, limits).at(parseAdapterDigest(digest))
      const prefix = source.uri.replace(/\/$/, '')
      if (!isStoreKey(prefix)) {
        throw new ServingError(
          'invalid_request',
          `${shown(source.uri)} is neither a digest nor a folder of the store: write sha256:… or a key prefix`,
        )
      }
      const said = shown(source.uri)
      const folders = new StoredFolders(limits, remote.timers)
      return await folders.find(
        { store, prefix, said, provenance: (etags) => ({ type: 'store', uri: prefix, revision: etags.weights, etags }) },
        signal,
      )
    }
  }
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new ServingError('client_closed', 'reading the adapter was called off')
}
