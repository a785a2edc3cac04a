import { type AdapterDigest, ServingError } from '@quiver/protocol'
import type { AdapterFiles } from '../format/inspect.ts'
import type { ObjectStore } from './object-store.ts'

/** Where a registered adapter's files are in an object store: by digest alone, never by a name. */
export function storedAdapterKeys(digest: AdapterDigest): { readonly config: string; readonly weights: string } {
  const folder = `adapters/sha256/${digest.slice(0, 2)}/${digest}`
  return { config: `${folder}/adapter_config.json`, weights: `${folder}/adapter_model.safetensors` }
}

/**
 * Puts an adapter's files into a store, weights first: whoever finds the config finds a whole adapter. Files that are
 * there already are kept, since the digest says that they are the same.
 * @throws ServingError `source_unavailable`
 */
export async function putStoredAdapter(
  store: ObjectStore,
  digest: AdapterDigest,
  { config, weights }: AdapterFiles,
): Promise<void> {
  const keys = storedAdapterKeys(digest)
  await putOnce(store, keys.weights, weights)
  await putOnce(store, keys.config, config)
}

async function putOnce(store: ObjectStore, key: string, bytes: Uint8Array): Promise<void> {
  try {
    await store.put(key, bytes, { ifNoneMatch: '*' })
  } catch (thrown) {
    if (!(thrown instanceof ServingError && thrown.code === 'conflict')) throw thrown
  }
}
