/** What is written back into a drop's folder: what it was published as, or why it was not. */
import type { ObjectStore } from '@quiver/cache/store'
import { errorCodes, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { CLEARING, dropFolder, PUBLISHED, REJECTED } from './drop-folder.ts'

/** The job that a result is of, and the etags that it saw. */
const work = {
  job: z.string().max(64),
  name: z.string().max(1024),
  files: z.record(z.string(), z.string()),
  at: z.iso.datetime(),
}

const publishedSchema = z.object({
  ...work,
  version: z.int().positive(),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  rank: z.int().positive(),
  modules: z.array(z.string()),
  bytes: z.int().positive(),
  /** What means this version since then. */
  aliases: z.array(z.string()),
  /** Why workers could not load it at once, where that was wished. */
  prewarm: z.string().optional(),
})
export type PublishedNote = Readonly<z.infer<typeof publishedSchema>>

const rejectedSchema = z.object({
  ...work,
  /** Of the first reason. */
  code: z.enum(errorCodes),
  reasons: z.array(z.string()).min(1),
})
export type RejectedNote = Readonly<z.infer<typeof rejectedSchema>>

const MAX_NOTE_BYTES = 256 * 1024

/** @returns undefined when there is none, or something that is no note of ours. @throws ServingError `source_unavailable` */
export async function readPublished(store: ObjectStore, name: string) {
  return await readNote(store, `${dropFolder(name)}${PUBLISHED}`, publishedSchema)
}

/** As `readPublished`: of a drop whose files are being moved aside. */
export async function readClearing(store: ObjectStore, name: string) {
  return await readNote(store, `${dropFolder(name)}${CLEARING}`, publishedSchema)
}

/** As `readPublished`. */
export async function readRejected(store: ObjectStore, name: string) {
  return await readNote(store, `${dropFolder(name)}${REJECTED}`, rejectedSchema)
}

/**
 * Writes it unless a later version's is there: who comes late must not say that an older one is the last.
 * @throws ServingError `source_unavailable`, `conflict` when others kept writing
 */
export async function writePublished(store: ObjectStore, note: PublishedNote): Promise<void> {
  const key = `${dropFolder(note.name)}${PUBLISHED}`
  for (let attempt = 0; attempt < 10; attempt++) {
    const found = await readNote(store, key, publishedSchema)
    if ((found.note?.version ?? 0) > note.version) return
    try {
      await store.put(key, encodeNote(note), found.etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: found.etag })
      return
    } catch (error) {
      if (!isCode(error, 'conflict') && !isCode(error, 'not_found')) throw error
    }
  }
  throw new ServingError('conflict', `${key} is being written by too many at once`)
}

export async function writeRejected(store: ObjectStore, note: RejectedNote): Promise<void> {
  await store.put(`${dropFolder(note.name)}${REJECTED}`, encodeNote(note))
}

export function encodeNote(note: PublishedNote | RejectedNote): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(note, null, 2)}\n`)
}

async function readNote<T>(
  store: ObjectStore,
  key: string,
  schema: z.ZodType<T>,
): Promise<{ readonly note?: T; readonly etag?: string }> {
  try {
    const { bytes, etag } = await store.get(key, { maxBytes: MAX_NOTE_BYTES })
    const read = schema.safeParse(jsonOf(bytes))
    return read.success ? { note: read.data, etag } : { etag }
  } catch (error) {
    if (isCode(error, 'not_found')) return {}
    // Not one of ours; it is written over.
    if (isCode(error, 'too_large')) return { etag: (await store.head(key)).etag }
    throw error
  }
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    // Somebody else's file under this name says nothing.
    return undefined
  }
}

export function isCode(thrown: unknown, code: ServingError['code']): boolean {
  return thrown instanceof ServingError && thrown.code === code
}
