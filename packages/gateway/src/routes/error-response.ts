import { type Logger, toServingError } from '@quiver/protocol'
import { toLoraxError } from './lorax-envelope.ts'

/** The answer for anything thrown on a LoRAX route. */
export function errorResponse(thrown: unknown, requestId: string, headers: Record<string, string> = {}): Response {
  return envelopeResponse(toLoraxError(toServingError(thrown)), requestId, headers)
}

/** An error in either family's envelope as an answer. */
export function envelopeResponse(
  { status, retryAfter, body }: { readonly status: number; readonly retryAfter?: number; readonly body: object },
  requestId: string,
  headers: Record<string, string>,
): Response {
  return Response.json(body, {
    status,
    headers: {
      ...headers,
      'x-request-id': requestId,
      ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
    },
  })
}

/** Writes what a client may not see to the log, under the id that it was given. */
export function logFailure(log: Logger, thrown: unknown, requestId: string): void {
  const error = toServingError(thrown)
  const context = { ...error.context, code: error.code, requestId }
  if (error.code !== 'internal') {
    log('debug', error.message, context)
    return
  }
  const { cause } = error
  log('error', 'a request failed inside the gateway', {
    ...context,
    cause: cause instanceof Error ? (cause.stack ?? cause.message) : describe(cause),
  })
}

function describe(thrown: unknown): string {
  try {
    return String(thrown)
  } catch {
    // An object without a usable toString was thrown; its kind is all that can be said.
    return typeof thrown
  }
}
