import { ListObjectsV2Command, type ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import type { ObjectEntry } from '../object-store.ts'
import { isStoreKey } from '../store-key.ts'
import type { S3Address } from './s3-address.ts'
import { FaultyAnswer } from './s3-failure.ts'
import type { S3Requests } from './s3-requests.ts'

/** As many as a page may have. */
export const MAX_PAGE_KEYS = 1_000

export interface Listing {
  readonly prefix: string
  readonly startAfter: string
  readonly pageKeys: number
}

/** A page at a time, and the next one only when it is wanted. Keys that no store of ours could have are passed over. */
export async function* listObjects(
  requests: S3Requests,
  { bucket, prefix: root }: S3Address,
  { prefix, startAfter, pageKeys }: Listing,
): AsyncIterable<ObjectEntry> {
  for (let token: string | undefined; ; ) {
    const page = await requests.run({ doing: 'listing', key: '' }, async ({ client, limits }) => {
      const command = new ListObjectsV2Command({
        Bucket: bucket,
        Prefix: root + prefix,
        MaxKeys: pageKeys,
        // A key may have characters that XML cannot.
        EncodingType: 'url',
        ...(token !== undefined ? { ContinuationToken: token } : startAfter === '' ? {} : { StartAfter: root + startAfter }),
      })
      return readPage(await client.send(command, { abortSignal: limits.signal }), { root, prefix, token })
    })
    yield* page.entries.filter(({ key }) => isStoreKey(key))
    if (page.next === undefined) return
    token = page.next
  }
}

/** A page that does not go on where the one before ended would be listed for ever. */
function readPage(
  answer: ListObjectsV2CommandOutput,
  { root, prefix, token }: { root: string; prefix: string; token: string | undefined },
): { entries: ObjectEntry[]; next: string | undefined } {
  const isEncoded = answer.EncodingType === 'url'
  const entries = (answer.Contents ?? []).map(({ Key = '', Size, ETag }) => {
    const name = isEncoded ? decodeKey(Key) : Key
    if (!name.startsWith(root + prefix)) throw new FaultyAnswer('a listing with keys that were not asked for')
    if (Size === undefined || ETag === undefined) throw new FaultyAnswer('a listing without sizes or etags')
    return { key: name.slice(root.length), size: Size, etag: ETag }
  })
  if (answer.IsTruncated !== true) return { entries, next: undefined }
  const next = answer.NextContinuationToken
  if (next === undefined || next === token || entries.length === 0) throw new FaultyAnswer('a listing that does not go on')
  return { entries, next }
}

function decodeKey(encoded: string): string {
  try {
    return decodeURIComponent(encoded.replaceAll('+', ' '))
  } catch {
    throw new FaultyAnswer('a listing with keys that cannot be read')
  }
}
