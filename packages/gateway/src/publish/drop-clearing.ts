/**
 * Moves a published drop aside: `dropped/<name, / as @>/<job>/` keeps its small files and what became of them. The weights are
 * not copied, since the very same bytes lie in the store under their digest.
 *
 * `_CLEARING.json` is there from the beginning to the end, so that whoever finds it goes on. Nothing is removed but what has the
 * etag that was published: a newer upload stays.
 */
import type { ObjectEntry, ObjectStore } from '@quiver/cache/store'
import { CLEARING, type Drop, dropFolder, inputsOf, PUBLISHED, READY, REJECTED } from './drop-folder.ts'
import { encodeNote, isCode, type PublishedNote } from './drop-result.ts'

const DROPPED_PREFIX = 'dropped/'
/** Larger files are removed without a copy. */
const MAX_COPY_BYTES = 4 * 1024 * 1024

/** Where a drop's files are kept after it was published; ends in `/`. */
export function droppedFolder({ name, job }: Pick<PublishedNote, 'name' | 'job'>): string {
  return `${DROPPED_PREFIX}${name.replaceAll('/', '@')}/${job}/`
}

/**
 * Begins it, or goes on with it.
 * @throws ServingError `source_unavailable`; what was done until then is done
 */
export async function clearDrop(store: ObjectStore, drop: Drop, note: PublishedNote): Promise<void> {
  const mark = `${dropFolder(drop.name)}${CLEARING}`
  if (!drop.files.has(CLEARING)) await store.put(mark, encodeNote(note))
  const folder = droppedFolder(note)
  const inputs = inputsOf(drop)
  const published = inputs.filter(([name, { etag }]) => note.files[name] === etag)
  for (const [name, entry] of published) {
    const isWeights = name === 'adapter_model.safetensors' || name === 'adapter_model.bin'
    if (!isWeights && entry.size <= MAX_COPY_BYTES) await copy(store, entry, `${folder}${name}`)
  }
  await store.put(`${folder}${PUBLISHED}`, encodeNote(note))
  if (published.length === inputs.length) {
    // First, since beside it the next upload would count as complete after its first file.
    await removeUnchanged(store, drop.files.get(READY))
    await removeUnchanged(store, drop.files.get(REJECTED))
  }
  for (const [, entry] of published) await removeUnchanged(store, entry)
  await store.delete(mark)
}

async function copy(store: ObjectStore, { key, etag }: ObjectEntry, to: string): Promise<void> {
  try {
    const { bytes } = await store.get(key, { ifMatch: etag, maxBytes: MAX_COPY_BYTES })
    await store.put(to, bytes)
  } catch (error) {
    // Somebody else moved it, or replaced it.
    if (!isCode(error, 'not_found') && !isCode(error, 'conflict')) throw error
  }
}

/** Stores cannot delete under a condition, so it is looked at right before: what is uploaded in the moment between is lost. */
export async function removeUnchanged(store: ObjectStore, entry: ObjectEntry | undefined): Promise<void> {
  if (entry === undefined) return
  try {
    if ((await store.head(entry.key)).etag === entry.etag) await store.delete(entry.key)
  } catch (error) {
    if (!isCode(error, 'not_found')) throw error
  }
}
