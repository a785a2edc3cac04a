import {
  type AdapterDigest,
  type AdapterName,
  limits,
  moduleNames,
  parseAdapterDigest,
  parseAdapterName,
  ServingError,
} from '@quiver/protocol'
import { z } from 'zod'
import { tenantSchema } from '../auth/api-key.ts'
import { type AdapterMetadata, type AdapterProvenance, metadataSchema, provenanceSchema } from './provenance.ts'

/** One immutable version of an adapter, as the store keeps it. */
export interface Manifest {
  readonly name: AdapterName
  /** 1, 2, 3… */
  readonly version: number
  readonly digest: AdapterDigest
  /** The base model that it was found to fit. */
  readonly base: string
  readonly rank: number
  readonly modules: readonly (typeof moduleNames)[number][]
  /** Size of the weights. */
  readonly bytes: number
  /** ISO 8601, UTC. */
  readonly createdAt: string
  /** To whom alone it is visible; absent: to everybody. */
  readonly tenant?: string | undefined
  /** What its publisher wrote down about it; means nothing to the server. */
  readonly metadata?: AdapterMetadata | undefined
  /** Where its files came from. */
  readonly source?: AdapterProvenance | undefined
  /** The template that it was trained with, where that is another than the base model's. */
  readonly chatTemplate?: string | undefined
}

/** Every key of the catalogue starts with this. */
export const CATALOGUE_PREFIX = 'catalogue/'

const count = z.int().positive()
const manifestSchema = z.object({
  name: z.string(),
  version: count,
  digest: z.string(),
  base: z.string(),
  rank: count,
  modules: z.array(z.enum(moduleNames)),
  bytes: count,
  createdAt: z.iso.datetime(),
  tenant: tenantSchema.optional(),
  metadata: metadataSchema.optional(),
  source: provenanceSchema.optional(),
  chatTemplate: z.string().max(limits.chatTemplateBytes).optional(),
})

/** `/` in a name is written `@`, which no name has: every name is one segment, and no name is the start of another. */
export function manifestKey(name: AdapterName, version: number): string {
  return `${nameFolder(name)}${version}.json`
}

/** What the keys of all that is known of a name start with; ends in `/`. */
export function nameFolder(name: AdapterName): string {
  return `${CATALOGUE_PREFIX}${name.replaceAll('/', '@')}/`
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`)
}

/**
 * @param key where the bytes were found; a manifest that says something else was not put there by a publisher
 * @throws ServingError `source_unavailable` naming the key
 */
export function decodeManifest(key: string, bytes: Uint8Array): Manifest {
  try {
    const read = manifestSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
    const manifest = { ...read, name: parseAdapterName(read.name), digest: parseAdapterDigest(read.digest) }
    if (manifestKey(manifest.name, manifest.version) === key) return manifest
  } catch (cause) {
    throw new ServingError(
      'source_unavailable',
      `the catalogue entry ${key} cannot be read: remove it from the store, or put back what it was`,
      { key },
      { cause },
    )
  }
  throw new ServingError(
    'source_unavailable',
    `the catalogue entry ${key} describes another adapter or version: remove it from the store`,
    { key },
  )
}
