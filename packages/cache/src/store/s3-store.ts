/**
 * An object store in a bucket of Amazon S3 or of a server that speaks its protocol, below a prefix.
 *
 * The server must have conditional writes (`If-None-Match: *` and `If-Match` on PutObject and CompleteMultipartUpload) and
 * list keys in the order of their bytes. Every request has limits of time and of repetition; what is read is verified; and
 * nothing that the store answers is believed because the store says so. How: s3/s3-requests.ts, s3/s3-download.ts.
 */
import { DeleteObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3'
import type { GetOptions, ListOptions, ObjectEntry, ObjectStore, PutOptions, StoredObject } from './object-store.ts'
import { defaultTimeLimits, type TimeLimits } from './s3/attempt-limits.ts'
import { parseS3Address, type S3Address } from './s3/s3-address.ts'
import { S3Download } from './s3/s3-download.ts'
import { FaultyAnswer } from './s3/s3-failure.ts'
import { listObjects, MAX_PAGE_KEYS } from './s3/s3-listing.ts'
import { type S3Credentials, S3Requests } from './s3/s3-requests.ts'
import { defaultRetryPolicy, type RetryDeps, type RetryPolicy } from './s3/s3-retries.ts'
import { defaultUploadSizes, type UploadSizes, upload } from './s3/s3-upload.ts'
import { checkStoreKey } from './store-key.ts'

export interface S3StoreOptions {
  /** Another server than Amazon's, `http://host:port`; its buckets are then part of the path. */
  readonly endpoint?: string
  /** Where absent: `us-east-1` with an endpoint, else what the standard chain says (`AWS_REGION`, the profile). */
  readonly region?: string
  /** Where absent, the standard chain: environment, profile, web identity, container, instance. */
  readonly credentials?: () => Promise<S3Credentials>
  readonly retry?: RetryPolicy
  readonly time?: TimeLimits
  readonly sizes?: UploadSizes
  /** Keys of one page of a listing. */
  readonly pageKeys?: number
}

export interface S3StoreDeps extends RetryDeps {
  /** Different at every call, in every process. */
  readonly uniqueId: () => string
}

export class S3Store implements ObjectStore {
  readonly #address: S3Address
  readonly #requests: S3Requests
  readonly #sizes: UploadSizes
  readonly #pageKeys: number
  readonly #uniqueId: () => string

  /**
   * Without I/O: whether the bucket can be used shows at the first request.
   * @param url `s3://bucket` or `s3://bucket/prefix`
   * @throws ServingError `invalid_request`
   * @example new S3Store('s3://models/quiver', { endpoint: 'http://127.0.0.1:8333' }, deps)
   */
  constructor(url: string, options: S3StoreOptions, { uniqueId, ...deps }: S3StoreDeps) {
    const {
      sizes = defaultUploadSizes,
      retry = defaultRetryPolicy,
      time = defaultTimeLimits,
      pageKeys = MAX_PAGE_KEYS,
      ...where
    } = options
    this.#address = parseS3Address(url)
    this.#requests = new S3Requests({ ...where, address: this.#address, retry, time }, deps)
    this.#sizes = sizes
    this.#pageKeys = pageKeys
    this.#uniqueId = uniqueId
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject> {
    const download = new S3Download(this.#target(key), key, options)
    return await this.#requests.run({ doing: 'reading', key, signal: options.signal }, (attempt) => download.attempt(attempt))
  }

  async head(key: string): Promise<ObjectEntry> {
    const target = this.#target(key)
    return await this.#requests.run({ doing: 'reading', key }, async ({ client, limits }) => {
      const answer = await client.send(new HeadObjectCommand(target), { abortSignal: limits.signal })
      if (answer.ContentLength === undefined || answer.ETag === undefined)
        throw new FaultyAnswer('an answer without size or etag')
      return { key, size: answer.ContentLength, etag: answer.ETag }
    })
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<{ readonly etag: string }> {
    const what = { target: this.#target(key), key, bytes, condition: options, writeId: this.#uniqueId() }
    return { etag: await upload(this.#requests, what, this.#sizes) }
  }

  list(prefix: string, { startAfter = '' }: ListOptions = {}): AsyncIterable<ObjectEntry> {
    return listObjects(this.#requests, this.#address, { prefix, startAfter, pageKeys: this.#pageKeys })
  }

  async delete(key: string): Promise<void> {
    const target = this.#target(key)
    await this.#requests.run({ doing: 'deleting', key }, ({ client, limits }) =>
      client.send(new DeleteObjectCommand(target), { abortSignal: limits.signal }),
    )
  }

  /** Lets its connections go. */
  close(): void {
    this.#requests.close()
  }

  #target(key: string): { Bucket: string; Key: string } {
    checkStoreKey(key)
    return { Bucket: this.#address.bucket, Key: this.#address.prefix + key }
  }
}
