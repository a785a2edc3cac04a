/**
 * Writes an object. Every write has a name of its own in the object's metadata: when an answer is lost and the repeated write
 * meets a condition that does not hold any more, the name tells whether it was our own first attempt that made it so.
 */
import { createHash } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { ServingError } from '@quiver/protocol'
import type { PutOptions } from '../object-store.ts'
import { SHA256_METADATA } from './s3-download.ts'
import { FaultyAnswer, judge } from './s3-failure.ts'
import type { S3Attempt, S3Requests } from './s3-requests.ts'

const WRITE_METADATA = 'quiver-write'
/** Parts of one upload that are sent at once; each costs a connection. */
const PARTS_AT_ONCE = 4
/** As many as a multipart upload may have. */
const MAX_PARTS = 10_000

export interface UploadSizes {
  /** Objects above this are sent in parts, which are repeated one by one. */
  readonly wholeBytes: number
  /** At least 5 MiB, for Amazon's sake. */
  readonly partBytes: number
}

export const defaultUploadSizes: UploadSizes = { wholeBytes: 16 * 2 ** 20, partBytes: 8 * 2 ** 20 }

export interface Upload {
  readonly target: { readonly Bucket: string; readonly Key: string }
  /** What callers and messages call it. */
  readonly key: string
  readonly bytes: Uint8Array
  readonly condition: PutOptions
  /** Of this write alone. */
  readonly writeId: string
}

/** @returns the etag of what was written */
export async function upload(requests: S3Requests, what: Upload, sizes: UploadSizes): Promise<string> {
  return what.bytes.length > sizes.wholeBytes ? await uploadParts(requests, what, sizes) : await uploadWhole(requests, what)
}

async function uploadWhole(requests: S3Requests, what: Upload): Promise<string> {
  const { target, key, bytes } = what
  const sha256 = createHash('sha256').update(bytes).digest()
  return await requests.run({ doing: 'writing', key, sendBytes: bytes.length }, (attempt) =>
    orOwnWrite(attempt, what, async ({ client, limits }) => {
      const command = new PutObjectCommand({
        ...target,
        ...conditionOf(what),
        Body: bytes,
        ContentLength: bytes.length,
        ChecksumSHA256: sha256.toString('base64'),
        Metadata: metadataOf(what, sha256.toString('hex')),
      })
      return (await client.send(command, { abortSignal: limits.signal })).ETag
    }),
  )
}

async function uploadParts(requests: S3Requests, what: Upload, sizes: UploadSizes): Promise<string> {
  await refuseIfThere(requests, what)
  const { target, key, bytes } = what
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const UploadId = await requests.run({ doing: 'writing', key }, async ({ client, limits }) => {
    const command = new CreateMultipartUploadCommand({
      ...target,
      ChecksumAlgorithm: 'SHA256',
      Metadata: metadataOf(what, sha256),
    })
    const answer = await client.send(command, { abortSignal: limits.signal })
    if (answer.UploadId === undefined) throw new FaultyAnswer('an upload without a name')
    return answer.UploadId
  })
  try {
    const partBytes = Math.max(sizes.partBytes, Math.ceil(bytes.length / MAX_PARTS))
    const Parts = await sendParts(requests, { ...what, UploadId, partBytes })
    return await requests.run({ doing: 'writing', key }, (attempt) =>
      orOwnWrite(attempt, what, async ({ client, limits }) => {
        const command = new CompleteMultipartUploadCommand({
          ...target,
          UploadId,
          ...conditionOf(what),
          MultipartUpload: { Parts },
        })
        return (await client.send(command, { abortSignal: limits.signal })).ETag
      }),
    )
  } catch (thrown) {
    // Parts that lie about are paid for. If even this fails, the bucket's own rule for old uploads has to remove them.
    await requests
      .run({ doing: 'cleaning up after', key }, ({ client, limits }) =>
        client.send(new AbortMultipartUploadCommand({ ...target, UploadId }), { abortSignal: limits.signal }),
      )
      .catch(() => undefined)
    throw thrown
  }
}

async function sendParts(
  requests: S3Requests,
  { target, key, bytes, UploadId, partBytes }: Upload & { UploadId: string; partBytes: number },
): Promise<CompletedPart[]> {
  const count = Math.ceil(bytes.length / partBytes)
  const parts: CompletedPart[] = []
  let next = 0
  let hasFailed = false
  const sendNext = async (): Promise<void> => {
    while (next < count && !hasFailed) {
      const at = next++
      const Body = bytes.subarray(at * partBytes, (at + 1) * partBytes)
      const part = { PartNumber: at + 1, ChecksumSHA256: createHash('sha256').update(Body).digest('base64') }
      const ETag = await requests.run({ doing: 'writing', key, sendBytes: Body.length }, async ({ client, limits }) => {
        const command = new UploadPartCommand({ ...target, UploadId, ...part, Body, ContentLength: Body.length })
        return etagOf((await client.send(command, { abortSignal: limits.signal })).ETag)
      })
      parts[at] = { ...part, ETag }
    }
  }
  const lanes = Array.from({ length: Math.min(PARTS_AT_ONCE, count) }, () =>
    sendNext().catch((thrown: unknown) => {
      hasFailed = true
      throw thrown
    }),
  )
  // All have ended before the upload is called off, since a part that arrives after that would lie about.
  const failed = (await Promise.allSettled(lanes)).find((lane) => lane.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return parts
}

/** Before many bytes are sent: whether they could be kept. The condition is tested again when they are there. */
async function refuseIfThere(requests: S3Requests, { target, key, condition }: Upload): Promise<void> {
  if (condition.ifNoneMatch === undefined) return
  const isThere = await requests.run({ doing: 'reading', key }, async ({ client, limits }) => {
    try {
      await client.send(new HeadObjectCommand(target), { abortSignal: limits.signal })
      return true
    } catch (thrown) {
      if (judge(thrown).status === 404) return false
      throw thrown
    }
  })
  if (isThere) throw new ServingError('conflict', `object ${key} exists already`)
}

/** An attempt of a write, and whether it was refused only because an earlier attempt, whose answer was lost, had succeeded. */
async function orOwnWrite(
  attempt: S3Attempt,
  { target, writeId }: Upload,
  write: (attempt: S3Attempt) => Promise<string | undefined>,
): Promise<string> {
  try {
    return etagOf(await write(attempt))
  } catch (thrown) {
    const { status } = judge(thrown)
    // 404: an upload in parts that is complete has no parts any more.
    if (attempt.retries.attempts > 1 && (status === 412 || status === 404)) {
      const etag = await etagOfWrite(attempt, target, writeId)
      if (etag !== undefined) return etag
    }
    throw thrown
  }
}

async function etagOfWrite(
  { client, limits }: S3Attempt,
  target: Upload['target'],
  writeId: string,
): Promise<string | undefined> {
  const { Metadata, ETag } = await headOf(client, target, limits.signal)
  return Metadata?.[WRITE_METADATA] === writeId ? ETag : undefined
}

async function headOf(
  client: S3Client,
  target: Upload['target'],
  abortSignal: AbortSignal,
): Promise<{ Metadata?: Record<string, string>; ETag?: string }> {
  try {
    const { Metadata = {}, ETag = '' } = await client.send(new HeadObjectCommand(target), { abortSignal })
    return { Metadata, ETag }
  } catch (thrown) {
    if (judge(thrown).status === 404) return {}
    throw thrown
  }
}

function conditionOf({ condition }: Upload): { IfNoneMatch?: string; IfMatch?: string } {
  return {
    ...(condition.ifNoneMatch === undefined ? {} : { IfNoneMatch: condition.ifNoneMatch }),
    ...(condition.ifMatch === undefined ? {} : { IfMatch: condition.ifMatch }),
  }
}

function metadataOf({ writeId }: Upload, sha256: string): Record<string, string> {
  return { [SHA256_METADATA]: sha256, [WRITE_METADATA]: writeId }
}

function etagOf(etag: string | undefined): string {
  if (etag === undefined || etag === '') throw new FaultyAnswer('an answer without an etag')
  return etag
}
