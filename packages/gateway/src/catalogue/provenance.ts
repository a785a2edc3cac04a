/** What a publisher says about an adapter: free texts, and where its files came from. */
import { z } from 'zod'

/** Texts by name. */
export type AdapterMetadata = Readonly<Record<string, string>>

/** Where a version's files came from, for people; nothing is fetched by it again. */
export interface AdapterProvenance {
  /** `upload`, `drop`, `hub`, `s3`, `local`, `store` or `example`; later versions may know more. */
  readonly type: string
  /** Of the hub. */
  readonly id?: string | undefined
  /** The hub's commit, or an etag. */
  readonly revision?: string | undefined
  /** Of an object or a folder of objects. */
  readonly uri?: string | undefined
  /** On the server's disk. */
  readonly path?: string | undefined
  /** What the hub's `revision` was asked for as: a branch, a tag. */
  readonly asked?: string | undefined
}

const ENTRIES = 64
const KEY_CHARACTERS = 64
const VALUE_CHARACTERS = 1024
const TOTAL_CHARACTERS = 16 * 1024
const place = z.string().min(1).max(2048)

/** At most 64 entries, keys of at most 64 characters, values of at most 1,024, together at most 16,384. */
export const metadataSchema = z
  .record(
    z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/, { error: 'must have letters, digits, ".", "_", "/" and "-" only' })
      .max(KEY_CHARACTERS),
    z.string().max(VALUE_CHARACTERS),
  )
  .refine((metadata) => Object.keys(metadata).length <= ENTRIES, { error: `must have at most ${ENTRIES} entries` })
  .refine((metadata) => charactersOf(metadata) <= TOTAL_CHARACTERS, {
    error: `must have at most ${TOTAL_CHARACTERS} characters together`,
  })

export const provenanceSchema = z.object({
  type: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/),
  id: place.optional(),
  revision: place.optional(),
  uri: place.optional(),
  path: place.optional(),
  asked: place.optional(),
})

function charactersOf(metadata: AdapterMetadata): number {
  return Object.entries(metadata).reduce((sum, [key, value]) => sum + key.length + value.length, 0)
}
