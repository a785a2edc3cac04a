import { createHash } from 'node:crypto'
import type { PackedAdapter } from '@quiver/cache'
import { type AdapterDigest, parseAdapterDigest } from '@quiver/protocol'

/** A digest for a name, for tests that do not care about content. */
export function digestFor(name: string): AdapterDigest {
  return parseAdapterDigest(createHash('sha256').update(name).digest('hex'))
}

/** A packed adapter that claims a size and holds nothing. */
export function hollowAdapter(name: string, bytes: number): PackedAdapter {
  return { digest: digestFor(name), dtype: 'f16', rank: 1, modules: [], bytes }
}
