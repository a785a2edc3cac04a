/**
 * Moves a published drop aside: `dropped/<name, / as @>/<job>/` keeps its small files and what became of them. The weights are
 * not copied, since the very same bytes lie in the store under their digest.
 *
 * `_CLEARING.json` is there from the beginning to the end, so that whoever finds it goes on. Nothing is removed once any file is
 * another one than was published: then the next upload has begun, which may have some files in common with the last.
 */
import type { ObjectEntry, ObjectStore } from '@quiver/cache/store'
import { CLEARING, dropFolder, inputsOf, PUBLISHED, READY, REJECTED, readDrop } from './drop-folder.ts'
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
export async function clearDrop(store: ObjectStore, note: PublishedNote): Promise<void> {
  const mark = `${dropFolder(note.name)}${CLEARING}`
  await store.put(mark, encodeNote(note))
  const drop = await readDrop(store, note.name)
  const inputs = inputsOf(drop)
  const folder = droppedFolder(note)
  if (inputs.every(([name, { etag }]) => note.files[name] === etag)) {
    for (const [name, entry] of inputs) {
      const isWeights = name === 'adapter_model.safetensors' || name === 'adapter_model.bin'
      if (!isWeights && entry.size <= MAX_COPY_BYTES) await copy(store, entry, `${folder}${name}`)
    }
    // First, since beside it the next upload would count as complete after its first file.
    await removeUnchanged(store, drop.files.get(READY))
    await removeUnchanged(store, drop.files.get(REJECTED))
    for (const [, entry] of inputs) await removeUnchanged(store, entry)
  }
  await store.put(`${folder}${PUBLISHED}`, encodeNote(note))
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
