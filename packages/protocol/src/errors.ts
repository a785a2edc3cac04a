import { z } from 'zod'

/**
 * One table for everything that can go wrong on purpose. The code is the contract between the parts and with clients,
 * the message is for people. A thrown value that is not a ServingError is a bug and becomes `internal` at the edge.
 */
export const httpStatus = {
  invalid_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  missing_right: 403,
  adapter_not_found: 404,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  too_large: 413,
  unsupported_media_type: 415,
  invalid_parameters: 422,
  tool_error: 422,
  template_error: 422,
  adapter_invalid: 422,
  adapter_unavailable: 424,
  rate_limited: 429,
  client_closed: 499,
  internal: 500,
  worker_lost: 502,
  overloaded: 503,
  draining: 503,
  not_ready: 503,
  adapter_arriving: 503,
  source_unavailable: 503,
  deadline_exceeded: 504,
} as const

export type ErrorCode = keyof typeof httpStatus
export const errorCodes = Object.keys(httpStatus) as readonly ErrorCode[]

/** A code in a message of the other part, which may be of another version: one that is not known here is `internal`. */
export const errorCodeSchema = z.enum(Object.keys(httpStatus) as [ErrorCode, ...ErrorCode[]]).catch('internal')

export type ErrorContext = Readonly<Record<string, string | number>>

/**
 * An expected failure. `message` says what failed, on what, and what to change; it reaches the client.
 * `context` is for the log and must not repeat what a client may not see.
 * @example throw new ServingError('adapter_invalid', 'rank 128 exceeds the maximum rank 64', { adapter: 'acme/sql' })
 */
export class ServingError extends Error {
  override readonly name = 'ServingError'
  readonly code: ErrorCode
  readonly context: ErrorContext

  constructor(code: ErrorCode, message: string, context: ErrorContext = {}, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
    this.context = context
  }
}

/**
 * Turns anything thrown into a ServingError. Unknown values become `internal` with a message that tells nothing of the
 * inside; the original stays as `cause` for the log.
 */
export function toServingError(thrown: unknown): ServingError {
  if (thrown instanceof ServingError) return thrown
  return new ServingError('internal', 'internal error', {}, { cause: thrown })
}

/** Makes a forgotten case of a union a compile error. */
export function assertNever(value: never): never {
  throw new Error(`unexpected value ${JSON.stringify(value)}`)
}
