/**
 * What an answer of the store, or the want of one, means: worth another attempt or not, and in which words of ObjectStore it
 * is told. A message reaches clients and names the key that they asked for; bucket and host go to the log by the context.
 */
import { S3ServiceException } from '@aws-sdk/client-s3'
import { type ErrorCode, ServingError } from '@quiver/protocol'
import type { S3Address } from './s3-address.ts'

/** An answer that contradicts itself or the question. Another attempt may get a better one. */
export class FaultyAnswer extends Error {
  override readonly name = 'FaultyAnswer'
}

export interface Judgement {
  /** HTTP status of the answer; absent when there was none. */
  readonly status: number | undefined
  /** For the log: the store's own code, or the system's. */
  readonly reason: string
  /** The same request may succeed a little later. */
  readonly isTransient: boolean
  /** The store wants fewer requests at once. */
  readonly wantsFewer: boolean
  /** The keys are past their time: the same request may succeed with fresh ones. */
  readonly isExpired: boolean
}

/** Statuses and codes of Amazon's list of errors that ask for patience, whatever the request. */
const transientStatus = new Set([408, 425, 429, 500, 502, 503, 504])
const transientCodes = new Set([
  'SlowDown',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'InternalError',
  'ServiceUnavailable',
  'Throttling',
  'ThrottlingException',
  'OperationAborted',
  'ConditionalRequestConflict',
  // The body did not arrive as it was sent.
  'BadDigest',
  'IncompleteBody',
  'XAmzContentSHA256Mismatch',
])
/** Some servers give the code, some only the status. */
const fewerStatus = new Set([429, 503])
const fewerCodes = new Set(['SlowDown', 'Throttling', 'ThrottlingException'])
const expiredCodes = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired'])

export function judge(thrown: unknown): Judgement {
  if (thrown instanceof S3ServiceException) {
    const { name, $metadata } = thrown
    const status = $metadata.httpStatusCode
    const isExpired = expiredCodes.has(name)
    const isTransient = !isExpired && (transientCodes.has(name) || transientStatus.has(status ?? 0))
    const wantsFewer = fewerCodes.has(name) || fewerStatus.has(status ?? 0)
    return { status, reason: name === 'Unknown' ? `status ${status}` : name, isTransient, wantsFewer, isExpired }
  }
  const name = thrown instanceof Error ? thrown.name : 'unknown'
  // Without keys, nothing goes out at all. What else is no answer of the store is the network's doing, or an answer cut off.
  const isTransient = name !== 'CredentialsProviderError' && !(thrown instanceof ServingError)
  const status = statusOf(thrown)
  return { status, reason: reasonOf(thrown), isTransient, wantsFewer: fewerStatus.has(status ?? 0), isExpired: false }
}

function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown)
  if ('code' in thrown && typeof thrown.code === 'string') return thrown.code
  // A plain error and our own have nothing but their message.
  return thrown.name === 'Error' || thrown instanceof FaultyAnswer ? thrown.message.slice(0, 200) : thrown.name
}

/** An answer that cannot be read at all is thrown as whatever the reader failed with, with the status beside it. */
function statusOf(thrown: unknown): number | undefined {
  const metadata = thrown instanceof Error && '$metadata' in thrown ? thrown.$metadata : undefined
  const status =
    typeof metadata === 'object' && metadata !== null && 'httpStatusCode' in metadata ? metadata.httpStatusCode : undefined
  return typeof status === 'number' ? status : undefined
}

export interface FailedRequest {
  readonly address: S3Address
  readonly endpoint: string
  /** What was being done, in words that end before the key: `reading`, `writing`. */
  readonly doing: string
  readonly key: string
  readonly attempts: number
}

/** What the caller is told. */
export function s3Failure(thrown: unknown, { address, endpoint, doing, key, attempts }: FailedRequest): ServingError {
  if (thrown instanceof ServingError) return thrown
  const { status, reason, isExpired } = judge(thrown)
  const context = { doing, reason, attempts, bucket: address.bucket, endpoint, ...(status === undefined ? {} : { status }) }
  const failure = (code: ErrorCode, message: string) => new ServingError(code, message, context, { cause: thrown })
  const object = key === '' ? 'the store' : `object ${key}`
  if (reason === 'CredentialsProviderError') {
    return failure(
      'source_unavailable',
      'no credentials for the object store were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role',
    )
  }
  if (reason === 'NoSuchBucket') return failure('source_unavailable', 'the bucket of the object store does not exist')
  if (isExpired) return failure('source_unavailable', 'the credentials of the object store have expired')
  switch (status) {
    case 404:
      return failure('not_found', `the store has no object ${key}`)
    case 409:
    case 412:
      return failure('conflict', `object ${key} is not, or not any more, what was expected`)
    case 416:
      return failure('invalid_request', `object ${key} does not have the bytes that were asked for`)
    case 401:
    case 403:
      return failure('source_unavailable', `the store refuses ${doing} ${object}: check its credentials and their rights`)
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
      return failure(
        'source_unavailable',
        `the store answers ${doing} ${object} with another address: check its endpoint and region`,
      )
    default:
      return failure('source_unavailable', `the store failed on ${doing} ${object}`)
  }
}
