import { ServingError } from '@quiver/protocol'
import { isStoreKey } from '../store-key.ts'

/** A place in a bucket. */
export interface S3Address {
  readonly bucket: string
  /** Stands before every key: empty, or ends in `/`. */
  readonly prefix: string
}

/** Amazon's rules for names of buckets, without those about reserved beginnings and ends. */
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/

/**
 * Takes `s3://bucket` and `s3://bucket/prefix` apart. Read as text: a URL parser would silently resolve `..` and drop what
 * it takes for a user or a port.
 * @throws ServingError `invalid_request`
 */
export function parseS3Address(url: string): S3Address {
  const [, bucket = '', path = ''] = /^s3:\/\/([^/]*)(?:\/(.*))?$/s.exec(url) ?? []
  const folder = path.replace(/\/$/, '')
  if (!BUCKET.test(bucket) || (folder !== '' && !isStoreKey(folder))) {
    throw new ServingError(
      'invalid_request',
      `${JSON.stringify(url)} is no object store: write s3://bucket or s3://bucket/prefix`,
    )
  }
  return { bucket, prefix: folder === '' ? '' : `${folder}/` }
}
