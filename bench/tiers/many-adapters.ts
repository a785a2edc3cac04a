/** The objects of a catalogue of very many adapters, without the weights, which the catalogue never reads. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterName, moduleNames, parseAdapterDigest, parseAdapterName } from '@quiver/protocol'
import { forEachAtMost } from '../../packages/gateway/src/at-most.ts'
import { theServer } from '../../packages/gateway/src/catalogue/audit-event.ts'
import { encodeManifest, type Manifest, manifestKey } from '../../packages/gateway/src/catalogue/manifest.ts'
import { encodeRecord, impliedRecord, recordKey } from '../../packages/gateway/src/catalogue/name-record.ts'

const TEAMS = 100
const WRITES = 32
const AT = '2026-01-01T00:00:00.000Z'

export interface CatalogueObject {
  readonly key: string
  readonly bytes: Uint8Array
}

/** `team-07/adapter-01907`, of one version each. */
export function manyNames(count: number): AdapterName[] {
  return Array.from({ length: count }, (_, index) => {
    const team = String(index % TEAMS).padStart(2, '0')
    return parseAdapterName(`team-${team}/adapter-${String(index).padStart(5, '0')}`)
  })
}

/** A manifest and a record for each name, as publishing leaves them. */
export function catalogueObjects(names: readonly AdapterName[]): CatalogueObject[] {
  return names.flatMap((name) => {
    const manifest = manifestOf(name)
    const lastEvent = { at: AT, actor: theServer, action: 'publish', subject: name, before: {}, after: { version: 1 } }
    const record = { ...impliedRecord(name, new Map([[1, manifest]])), lastEvent }
    return [
      { key: manifestKey(name, 1), bytes: encodeManifest(manifest) },
      { key: recordKey(name), bytes: encodeRecord(record) },
    ]
  })
}

function manifestOf(name: AdapterName): Manifest {
  const digest = parseAdapterDigest(createHash('sha256').update(name).digest('hex'))
  return {
    name,
    version: 1,
    digest,
    base: 'SmolLM2-135M-Instruct',
    rank: 16,
    modules: [...moduleNames],
    bytes: 9_800_000,
    createdAt: AT,
    metadata: { run: digest.slice(0, 8), task: 'summaries' },
  }
}

/** As a folder store keeps them. Not by the store itself, whose every write waits for the disk. */
export async function writeToFolder(folder: string, objects: readonly CatalogueObject[]): Promise<void> {
  await forEachAtMost(WRITES, objects, async ({ key, bytes }) => {
    const file = path.join(folder, key)
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, bytes)
  })
}

export async function writeToStore(store: ObjectStore, objects: readonly CatalogueObject[], signal: AbortSignal): Promise<void> {
  await forEachAtMost(WRITES, objects, async ({ key, bytes }) => {
    signal.throwIfAborted()
    await store.put(key, bytes)
  })
}
