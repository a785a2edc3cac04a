/** Brings the catalogue in memory up to what the store has, reading only what changed. */
import type { ObjectEntry, ObjectStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import { forEachAtMost } from '../at-most.ts'
import type { CatalogueMemory, CatalogueProblem } from './catalogue-memory.ts'
import { HOT_COPY_BATCH, type HotCopy } from './hot-copy.ts'
import { limitsOfRecord } from './name-record.ts'

/** Objects that are read from the store at once. */
const READS = 32

export interface RefreshReport {
  /** Objects that were read, from the store or a hot copy. */
  readonly read: number
  readonly removed: number
  /** Found in this refresh. */
  readonly problems: readonly CatalogueProblem[]
}

/**
 * Lists keys and etags below a prefix, then reads what is new or changed, from the hot copy where it has that very etag. What
 * this process has itself written since the listing began is newer than the listing and stays.
 * @param prefix of the whole catalogue, or the folder of one name
 * @throws ServingError `source_unavailable`; what was read before counts
 */
export async function refreshMemory(
  prefix: string,
  {
    store,
    memory,
    hotCopy,
  }: { readonly store: ObjectStore; readonly memory: CatalogueMemory; readonly hotCopy: HotCopy | undefined },
): Promise<RefreshReport> {
  const before = memory.etagsBelow(prefix)
  const changed: ObjectEntry[] = []
  const gone = new Set(before.keys())
  for await (const entry of store.list(prefix)) {
    gone.delete(entry.key)
    if (before.get(entry.key) !== entry.etag) changed.push(entry)
  }
  const isUntouched = (key: string) => memory.etag(key) === before.get(key)
  const problems: CatalogueProblem[] = []
  let read = 0
  const take = (key: string, etag: string, bytes: Uint8Array) => {
    if (!isUntouched(key)) return
    read += 1
    const problem = memory.take(key, etag, bytes)
    if (problem !== undefined) problems.push(problem)
  }
  const missing = await readCopies(changed, hotCopy, take)
  const fetched: { readonly key: string; readonly etag: string; readonly bytes: Uint8Array }[] = []
  await forEachAtMost(READS, missing, async ({ key, etag }) => {
    const object = await getOrRefuse(store, key)
    if (object === 'gone') {
      if (isUntouched(key)) gone.add(key)
    } else if (object === 'too large') {
      if (isUntouched(key)) problems.push(memory.refuse(key, etag, `${key} has more than ${limitsOfRecord.bytes} bytes`))
    } else {
      take(key, object.etag, object.bytes)
      fetched.push({ key, etag: object.etag, bytes: object.bytes })
    }
  })
  for (let at = 0; at < fetched.length; at += HOT_COPY_BATCH) await hotCopy?.write(fetched.slice(at, at + HOT_COPY_BATCH))
  const removed = [...gone].filter((key) => before.has(key) && isUntouched(key))
  for (const key of removed) memory.forget(key)
  return { read, removed: removed.length, problems }
}

/** @returns what the hot copy does not have */
async function readCopies(
  entries: readonly ObjectEntry[],
  hotCopy: HotCopy | undefined,
  take: (key: string, etag: string, bytes: Uint8Array) => void,
): Promise<readonly ObjectEntry[]> {
  if (hotCopy === undefined) return entries
  const missing: ObjectEntry[] = []
  for (let at = 0; at < entries.length; at += HOT_COPY_BATCH) {
    const batch = entries.slice(at, at + HOT_COPY_BATCH)
    const copies = await hotCopy.read(batch)
    // Slow or gone: the store is asked for the rest, without waiting for the copy again and again.
    if (copies === undefined) return [...missing, ...entries.slice(at)]
    for (const [index, entry] of batch.entries()) {
      const bytes = copies[index]
      if (bytes === undefined) missing.push(entry)
      else take(entry.key, entry.etag, bytes)
    }
  }
  return missing
}

async function getOrRefuse(store: ObjectStore, key: string) {
  try {
    return await store.get(key, { maxBytes: limitsOfRecord.bytes })
  } catch (error) {
    if (error instanceof ServingError && error.code === 'not_found') return 'gone'
    if (error instanceof ServingError && error.code === 'too_large') return 'too large'
    throw error
  }
}
