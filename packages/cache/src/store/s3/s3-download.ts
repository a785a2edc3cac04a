/**
 * Reads an object, or a part of it, into memory. A download that breaks off goes on from the byte where it stopped, under the
 * condition that the object is still the same: bytes of two versions never meet. Whole objects are compared with the sha256
 * that was written beside them, or with the checksum that the store has.
 */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { GetObjectCommand, type GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { ServingError } from '@quiver/protocol'
import type { ByteRange, GetOptions, StoredObject } from '../object-store.ts'
import type { AttemptLimits } from './attempt-limits.ts'
import { FaultyAnswer, judge } from './s3-failure.ts'
import type { S3Attempt } from './s3-requests.ts'

/** Objects beyond this are not read at once, whatever the caller allows. */
const MAX_OBJECT_BYTES = 4 * 2 ** 30
/** A new attempt after this much was gained is no repetition. */
const GAIN_BYTES = 256 * 1024
/** Under this name an object's metadata has the sha256 of its content, in hex. */
export const SHA256_METADATA = 'quiver-sha256'

/** What the first answer said about the object, and what was read of it. */
interface Partial {
  readonly etag: string
  /** Of the whole object. */
  readonly size: number
  /** Of what is read. */
  readonly start: number
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly checksums: Checksums
  filled: number
}

interface Checksums {
  /** Base64, but for the first. */
  readonly sha256Hex: string | undefined
  readonly sha256: string | undefined
  readonly crc32: string | undefined
}

export class S3Download {
  readonly #target: { readonly Bucket: string; readonly Key: string }
  readonly #key: string
  readonly #options: GetOptions
  #partial: Partial | undefined
  #restarts = 0

  /** @param target the object as the store knows it; `key` is what callers and messages call it */
  constructor(target: { Bucket: string; Key: string }, key: string, options: GetOptions) {
    this.#target = target
    this.#key = key
    this.#options = options
    if (options.range !== undefined) checkRange(options.range, key)
  }

  /** One attempt, which goes on where the one before broke off. */
  async attempt({ client, limits, retries }: S3Attempt): Promise<StoredObject> {
    const asked = this.#askedRange()
    const etag = this.#partial?.etag ?? this.#options.ifMatch
    const before = this.#partial?.filled ?? 0
    try {
      const answer = await client.send(
        new GetObjectCommand({
          ...this.#target,
          ...(asked === undefined ? { ChecksumMode: 'ENABLED' } : { Range: `bytes=${asked.start}-${asked.end - 1}` }),
          ...(etag === undefined ? {} : { IfMatch: etag }),
        }),
        { abortSignal: limits.signal },
      )
      limits.answered()
      return await this.#read(answer, asked, limits)
    } catch (thrown) {
      this.#restartIfChanged(thrown)
      throw thrown
    } finally {
      if ((this.#partial?.filled ?? 0) - before >= GAIN_BYTES) retries.gained()
    }
  }

  #askedRange(): ByteRange | undefined {
    const partial = this.#partial
    if (partial === undefined || partial.filled === 0) return this.#options.range
    return { start: partial.start + partial.filled, end: partial.start + partial.bytes.length }
  }

  async #read(answer: GetObjectCommandOutput, asked: ByteRange | undefined, limits: AttemptLimits): Promise<StoredObject> {
    const body = answer.Body as (AsyncIterable<Uint8Array> & { destroy(): void }) | undefined
    if (body === undefined) throw new FaultyAnswer('an answer without a body')
    try {
      const partial = this.#begin(answer, asked)
      for await (const chunk of body) {
        limits.brought(chunk.length)
        if (partial.filled + chunk.length > partial.bytes.length) throw new FaultyAnswer('more bytes than were announced')
        partial.bytes.set(chunk, partial.filled)
        partial.filled += chunk.length
      }
      if (partial.filled < partial.bytes.length) throw new FaultyAnswer('fewer bytes than were announced')
      if (partial.bytes.length === partial.size) this.#verify(partial)
      return { bytes: partial.bytes, etag: partial.etag, size: partial.size }
    } finally {
      body.destroy()
    }
  }

  /** Compares the answer with the question and with the answer before. */
  #begin(answer: GetObjectCommandOutput, asked: ByteRange | undefined): Partial {
    const encoding = answer.ContentEncoding ?? ''
    // Some stores keep the name of the framing that an upload had.
    if (encoding !== '' && encoding !== 'identity' && encoding !== 'aws-chunked') {
      throw new ServingError(
        'source_unavailable',
        `object ${this.#key} is stored as ${shownEncoding(encoding)}: publish it uncompressed`,
      )
    }
    const { start, end, size } = asked === undefined ? wholeOf(answer) : partOf(answer, asked)
    const etag = answer.ETag
    if (etag === undefined || etag === '') throw new FaultyAnswer('an answer without an etag')
    const known = this.#partial
    if (known !== undefined && known.filled > 0) {
      if (etag !== known.etag) throw new Changed()
      if (size !== known.size || end !== known.start + known.bytes.length)
        throw new FaultyAnswer('another size under the same etag')
      return known
    }
    if (this.#options.ifMatch !== undefined && etag !== this.#options.ifMatch) throw new Changed()
    const { maxBytes = MAX_OBJECT_BYTES } = this.#options
    if (end - start > Math.min(maxBytes, MAX_OBJECT_BYTES)) {
      throw new ServingError(
        'too_large',
        `object ${this.#key} has ${end - start} bytes, more than ${Math.min(maxBytes, MAX_OBJECT_BYTES)}`,
      )
    }
    this.#partial = { etag, size, start, bytes: new Uint8Array(end - start), checksums: checksumsOf(answer), filled: 0 }
    return this.#partial
  }

  #verify({ bytes, checksums }: Partial): void {
    const { sha256Hex, sha256, crc32: crc } = checksums
    const wrong =
      (sha256Hex !== undefined && createHash('sha256').update(bytes).digest('hex') !== sha256Hex) ||
      (sha256 !== undefined && createHash('sha256').update(bytes).digest('base64') !== sha256) ||
      (crc !== undefined && crc32Base64(bytes) !== crc)
    if (!wrong) return
    // Whichever byte is wrong: all are read again.
    this.#partial = undefined
    throw new FaultyAnswer('bytes that do not have their checksum')
  }

  /** The first time that the object is replaced under a download, the download begins anew; after that it is a conflict. */
  #restartIfChanged(thrown: unknown): void {
    const isChanged = thrown instanceof Changed || judge(thrown).status === 412
    if (!isChanged) return
    const mayRestart = this.#options.ifMatch === undefined && this.#restarts === 0
    this.#restarts += 1
    this.#partial = undefined
    if (mayRestart) throw new Changed()
    throw new ServingError('conflict', `object ${this.#key} is not, or not any more, what was expected`, {}, { cause: thrown })
  }
}

/** Another version than the one that was begun with. */
class Changed extends FaultyAnswer {
  constructor() {
    super('the object was replaced meanwhile')
  }
}

function checkRange({ start, end }: ByteRange, key: string): void {
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end <= start) {
    throw new ServingError('invalid_request', `bytes ${start} to ${end} are no range of object ${key}`)
  }
}

function wholeOf({ ContentLength: size, $metadata }: GetObjectCommandOutput): { start: number; end: number; size: number } {
  if ($metadata.httpStatusCode !== 200) throw new FaultyAnswer(`status ${$metadata.httpStatusCode} for a whole object`)
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) throw new FaultyAnswer('an answer without a length')
  return { start: 0, end: size, size }
}

function partOf(
  { ContentRange = '', ContentLength: length, $metadata }: GetObjectCommandOutput,
  asked: ByteRange,
): { start: number; end: number; size: number } {
  if ($metadata.httpStatusCode !== 206) throw new FaultyAnswer(`status ${$metadata.httpStatusCode} for a part of an object`)
  const [, from, to, whole] = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15})$/.exec(ContentRange) ?? []
  const [start, end, size] = [Number(from), Number(to) + 1, Number(whole)]
  if (start !== asked.start || end !== Math.min(asked.end, size) || (length !== undefined && length !== end - start)) {
    throw new FaultyAnswer('another part than was asked for')
  }
  return { start, end, size }
}

/** The checksum of a multipart upload is one of its parts' checksums and says nothing about the whole. */
function checksumsOf({ Metadata, ChecksumType, ChecksumSHA256, ChecksumCRC32 }: GetObjectCommandOutput): Checksums {
  const ofWhole = (checksum: string | undefined) =>
    ChecksumType === 'COMPOSITE' || checksum?.includes('-') === true ? undefined : checksum
  return { sha256Hex: Metadata?.[SHA256_METADATA], sha256: ofWhole(ChecksumSHA256), crc32: ofWhole(ChecksumCRC32) }
}

function crc32Base64(bytes: Uint8Array): string {
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32BE(crc32(bytes))
  return checksum.toString('base64')
}

function shownEncoding(encoding: string): string {
  return JSON.stringify(encoding.slice(0, 40))
}
