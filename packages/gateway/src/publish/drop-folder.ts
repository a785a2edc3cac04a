/**
 * What lies in the drop folder. Under `drop/`, the last part of a key is a file's name and everything before it the adapter's, so
 * names nest: `drop/acme/sql/adapter_config.json` and `drop/acme/sql/v2/adapter_config.json` belong to two adapters.
 */
import { hash } from 'node:crypto'
import type { ObjectEntry, ObjectStore } from '@quiver/cache/store'

/** Every key of the drop folder starts with this. */
export const DROP_PREFIX = 'drop/'

/** What decides how a drop is published. */
export const inputNames = [
  'adapter_config.json',
  'adapter_model.safetensors',
  'quiver.json',
  'chat_template.jinja',
  'tokenizer_config.json',
  // Never opened: that they are there says why there are no weights.
  'adapter_model.bin',
  'adapter_model.safetensors.index.json',
] as const
export type InputName = (typeof inputNames)[number]

export const READY = '_READY'
export const PUBLISHED = '_PUBLISHED.json'
export const REJECTED = '_REJECTED.json'
/** Beside a published drop until its files are moved aside: what was published. */
export const CLEARING = '_CLEARING.json'
const markNames = [READY, PUBLISHED, REJECTED, CLEARING] as const
type FileName = InputName | (typeof markNames)[number]

/** Other files are left alone: whole folders of a training run may be dropped. */
const fileNames: readonly string[] = [...inputNames, ...markNames]

/** One folder below `drop/` as a look at the store found it. */
export interface Drop {
  /** The adapter's name, as far as it is one. */
  readonly name: string
  readonly files: ReadonlyMap<FileName, ObjectEntry>
}

export function dropFolder(name: string): string {
  return `${DROP_PREFIX}${name}/`
}

/** The etags of what decides how a drop is published, in one order. */
export function inputsOf({ files }: Drop): readonly (readonly [InputName, ObjectEntry])[] {
  return inputNames.flatMap((name) => {
    const entry = files.get(name)
    return entry === undefined ? [] : [[name, entry] as const]
  })
}

/** Whether there is something that can be published, or refused. */
export function isComplete({ files }: Drop): boolean {
  if (files.has(READY)) return true
  const isWeights = files.has('adapter_model.safetensors')
  const isOther = files.has('adapter_model.bin') || files.has('adapter_model.safetensors.index.json')
  return files.has('adapter_config.json') && (isWeights || isOther)
}

/** The same name with the same files is the same piece of work, whoever finds it how often. */
export function dropId(drop: Drop): string {
  const etags = inputsOf(drop).map(([name, { etag }]) => [name, etag])
  return `drop-${hash('sha256', JSON.stringify([drop.name, etags]), 'hex').slice(0, 32)}`
}

/** The adapter's name that a key of the drop folder belongs to; undefined for a key that means nothing there. */
export function nameOfKey(key: string): string | undefined {
  const end = key.lastIndexOf('/')
  if (!key.startsWith(DROP_PREFIX) || end < DROP_PREFIX.length) return undefined
  return isFileName(key.slice(end + 1)) ? key.slice(DROP_PREFIX.length, end) : undefined
}

/**
 * Every folder with a file that means something, in no order.
 * @throws ServingError `source_unavailable`
 */
export async function listDrops(store: ObjectStore): Promise<ReadonlyMap<string, Drop>> {
  return await gather(store, DROP_PREFIX)
}

/**
 * One folder as it is now.
 * @throws ServingError `source_unavailable`
 */
export async function readDrop(store: ObjectStore, name: string): Promise<Drop> {
  return (await gather(store, dropFolder(name), name)).get(name) ?? { name, files: new Map() }
}

async function gather(store: ObjectStore, prefix: string, only?: string): Promise<Map<string, Drop>> {
  const drops = new Map<string, { readonly name: string; readonly files: Map<FileName, ObjectEntry> }>()
  for await (const entry of store.list(prefix)) {
    const name = nameOfKey(entry.key)
    const file = entry.key.slice(entry.key.lastIndexOf('/') + 1)
    if (name === undefined || !isFileName(file) || (only !== undefined && name !== only)) continue
    const drop = drops.get(name) ?? { name, files: new Map() }
    drops.set(name, drop)
    drop.files.set(file, entry)
  }
  return drops
}

function isFileName(text: string): text is FileName {
  return fileNames.includes(text)
}
