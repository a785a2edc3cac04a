import { fileURLToPath } from 'node:url'
import { type Logger, ServingError } from '@quiver/protocol'
import { FolderStore } from './folder-store.ts'
import { S3Store, type S3StoreDeps, type S3StoreOptions } from './s3-store.ts'
import { WatchedStore } from './watched-store.ts'

export interface OpenStoreOptions {
  /** For `s3://`. */
  readonly s3?: S3StoreOptions
}

export interface OpenStoreDeps extends S3StoreDeps {
  readonly log?: Logger
}

/**
 * Opens `file:///path` (made when it is missing) or `s3://bucket/prefix` (without I/O, so that a store that is down keeps
 * nobody from starting; `probe` tells).
 * @throws ServingError `invalid_request` for another address, `source_unavailable` for a folder that cannot be used
 * @example const store = await openObjectStore('s3://models', { s3: { endpoint: 'http://127.0.0.1:8333' } }, deps)
 */
export async function openObjectStore(url: string, { s3 = {} }: OpenStoreOptions, deps: OpenStoreDeps): Promise<WatchedStore> {
  if (url.startsWith('s3://')) return new WatchedStore(new S3Store(url, s3, deps), deps)
  const parsed = URL.parse(url)
  if (parsed?.protocol === 'file:' && parsed.host === '') {
    return new WatchedStore(await FolderStore.open(fileURLToPath(parsed), deps.uniqueId), deps)
  }
  throw new ServingError(
    'invalid_request',
    `${JSON.stringify(url)} is no object store: write file:///path, s3://bucket or s3://bucket/prefix`,
  )
}
