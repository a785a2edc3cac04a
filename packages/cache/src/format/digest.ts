/**
 * The identity of an adapter: sha256 over what decides its mathematics.
 *
 *   digest = sha256("quiver-adapter-1\n" + config + "\n" + weights), as 64 lower-case hex digits
 *   config = JSON.stringify([alpha, excludeModules, layersPattern, layersToTransform, alphaPattern, rank, rankPattern, rslora,
 *            targetModules]) with null for what is absent; lists of names and layers sorted by code unit and number,
 *            patterns as [key, value] in file order, because the first that matches counts
 *   weights = sha256 of the whole adapter_model.safetensors, as 64 lower-case hex digits
 *
 * Fields of adapter_config.json without effect (paths, dropout, versions) are left out, so that a re-saved config keeps its
 * digest. The base model's name is left out too: whether an adapter fits is decided by shapes at every load.
 */
import { createHash } from 'node:crypto'
import { type AdapterDigest, parseAdapterDigest } from '@quiver/protocol'
import { nextTurn } from '../turns.ts'
import type { AdapterConfig } from './adapter-config.ts'

/**
 * One slice takes about 0.7 ms, so that hashing never holds up the event loop. (webcrypto's digest runs in a worker thread
 * but copies its input first: 0.7–3.8 ms of the main thread and 4.4–7.6 ms in all for 5 MB, against 3.5 ms here.)
 */
const HASH_SLICE_BYTES = 1024 * 1024
const VERSION = 'quiver-adapter-1'

/** sha256 of bytes as hex, with a turn of the event loop between slices. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const hash = createHash('sha256')
  for (let offset = 0; offset < bytes.length; offset += HASH_SLICE_BYTES) {
    if (offset > 0) await nextTurn()
    hash.update(bytes.subarray(offset, offset + HASH_SLICE_BYTES))
  }
  return hash.digest('hex')
}

/** The canonical digest of an adapter, from its parsed config and the bytes of its weights file. */
export async function adapterDigest(config: AdapterConfig, weights: Uint8Array): Promise<AdapterDigest> {
  return adapterDigestOf(config, await sha256Hex(weights))
}

/** The same where the weights' own sha256 is known already. @param weightsSha256 64 lower-case hex digits */
export function adapterDigestOf(config: AdapterConfig, weightsSha256: string): AdapterDigest {
  return parseAdapterDigest(
    createHash('sha256')
      .update(`${VERSION}\n${canonicalConfig(config)}\n${weightsSha256}`)
      .digest('hex'),
  )
}

function canonicalConfig(config: AdapterConfig): string {
  return JSON.stringify([
    config.alpha,
    sortedNames(config.excludeModules),
    sortedNames(config.layersPattern),
    config.layersToTransform?.toSorted((x, y) => x - y) ?? null,
    config.alphaPattern.map(({ key, value }) => [key, value]),
    config.rank,
    config.rankPattern.map(({ key, value }) => [key, value]),
    config.rslora,
    sortedNames(config.targetModules),
  ])
}

function sortedNames(names: readonly string[] | string | undefined): readonly string[] | string | null {
  return typeof names === 'string' ? names : (names?.toSorted() ?? null)
}
