/**
 * What a bucket says of its changes, in S3's format: `{"Records": [{"s3": {"bucket": {"name"}, "object": {"key"}}}]}`. It is a hint and
 * no more: whoever is told looks for himself.
 */
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'

/** Where the store's keys begin in its bucket. */
interface Place {
  /** Undefined for a store that is no bucket: any may mean it. */
  readonly bucket: string | undefined
  /** Empty, or ending in `/`. */
  readonly prefix: string
}

const recordSchema = z.object({
  s3: z.object({ bucket: z.object({ name: z.string() }), object: z.object({ key: z.string().max(8192) }) }),
})
/** Tests of the address have no records. */
export const eventSchema = z.looseObject({
  Records: z.array(z.unknown()).max(10_000).describe('The changes, as S3 writes them; only their keys are read.').optional(),
})

/** @param address `s3://bucket/prefix`, or another */
export function placeOf(address: string): Place {
  const [, bucket, prefix = ''] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(address) ?? []
  return { bucket, prefix: prefix === '' ? '' : `${prefix.replace(/\/+$/, '')}/` }
}

/**
 * The keys of the store that an event is about; other buckets and folders are passed over, and so is what is no record of S3's.
 * @throws ServingError `invalid_request` for a body that is no event
 */
export function keysOfEvent(body: unknown, { bucket, prefix }: Place): readonly string[] {
  const event = eventSchema.safeParse(body)
  if (!event.success) {
    throw new ServingError('invalid_request', "the body is not a bucket's event: send it in S3's format, with `Records`")
  }
  return (event.data.Records ?? []).flatMap((record) => {
    const { data } = recordSchema.safeParse(record)
    if (data === undefined || (bucket !== undefined && data.s3.bucket.name !== bucket)) return []
    const key = decodeKey(data.s3.object.key)
    return key?.startsWith(prefix) === true ? [key.slice(prefix.length)] : []
  })
}

/** Keys are encoded as in a form; some servers do not, which makes no difference for names that an adapter can have. */
function decodeKey(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded.replace(/\+/g, ' '))
  } catch {
    return undefined
  }
}
