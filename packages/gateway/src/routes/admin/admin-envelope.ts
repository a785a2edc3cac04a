import { httpStatus, type ServingError, toServingError } from '@quiver/protocol'
import { envelopeResponse } from '../error-response.ts'

/** Seconds after which a failure that passes may have passed. */
const RETRY_AFTER_S = 2

/** An error as the routes of administration answer it: flat, with the failure's own code and that code's own status. */
export function toAdminError({ code, message }: ServingError) {
  const status = httpStatus[code]
  const isPassing = status === 429 || status === 503
  return { status, ...(isPassing ? { retryAfter: RETRY_AFTER_S } : {}), body: { error: message, error_type: code } }
}

/** The answer for anything thrown on a route of administration. */
export function adminErrorResponse(thrown: unknown, requestId: string, headers: Record<string, string> = {}): Response {
  return envelopeResponse(toAdminError(toServingError(thrown)), requestId, headers)
}
