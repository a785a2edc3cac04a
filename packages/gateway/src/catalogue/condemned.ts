/**
 * Bytes that no version refers to are not deleted at once: a publisher may have just put them and be about to write its
 * manifest, or have found them there. So they are condemned first, in an object of their own that says since when, and deleted
 * a time of grace later. In between a publisher that wants them takes the sentence back. Collector and publisher change that
 * object by compare-and-swap, so exactly one of them wins; once a deletion has begun, a publisher has to wait for its end.
 *
 * What remains: a publisher that stands still for longer than the time of grace between putting bytes and writing its manifest.
 */
import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterDigest, ServingError } from '@quiver/protocol'
import { z } from 'zod'

const condemnedSchema = z.object({
  state: z.enum(['condemned', 'kept', 'deleting']),
  /** ISO 8601, UTC. */
  since: z.iso.datetime(),
})
export type Condemned = Readonly<z.infer<typeof condemnedSchema>>

export const CONDEMNED_PREFIX = 'condemned/'
const MAX_BYTES = 4096

export function condemnedKey(digest: AdapterDigest): string {
  return `${CONDEMNED_PREFIX}${digest}.json`
}

/**
 * Makes sure that an adapter's bytes are not collected before their manifest is written.
 * @throws ServingError `conflict` while they are being deleted; a moment later they can be put again
 */
export async function keepBytes(store: ObjectStore, digest: AdapterDigest): Promise<void> {
  const key = condemnedKey(digest)
  if (!(await isThere(store, key))) return
  const found = await readCondemned(store, key)
  if (found === undefined || found.condemned.state === 'kept') return
  if (found.condemned.state === 'condemned') {
    // Fails with `conflict` when the collector has just begun.
    await store.put(key, encodeCondemned({ ...found.condemned, state: 'kept' }), { ifMatch: found.etag })
    return
  }
  throw new ServingError('conflict', 'these very weights are being deleted from the store: try again in a moment', { digest })
}

/** @returns undefined when there is none, or something that is no sentence */
export async function readCondemned(
  store: ObjectStore,
  key: string,
): Promise<{ readonly condemned: Condemned; readonly etag: string } | undefined> {
  try {
    const { bytes, etag } = await store.get(key, { maxBytes: MAX_BYTES })
    const read = condemnedSchema.safeParse(JSON.parse(new TextDecoder().decode(bytes)))
    return read.success ? { condemned: read.data, etag } : undefined
  } catch (error) {
    if (error instanceof SyntaxError || (error instanceof ServingError && error.code !== 'source_unavailable')) return undefined
    throw error
  }
}

export function encodeCondemned(condemned: Condemned): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(condemned)}\n`)
}

async function isThere(store: ObjectStore, key: string): Promise<boolean> {
  try {
    await store.head(key)
    return true
  } catch (error) {
    if (error instanceof ServingError && error.code === 'not_found') return false
    throw error
  }
}
