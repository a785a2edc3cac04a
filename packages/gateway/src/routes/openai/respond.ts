import { toServingError } from '@quiver/protocol'
import { toOpenaiError } from './envelope.ts'

/** The answer for anything thrown on a `/v1` route. */
export function openaiErrorResponse(thrown: unknown, requestId: string, headers: Record<string, string> = {}): Response {
  const { status, retryAfter, body } = toOpenaiError(toServingError(thrown))
  return Response.json(body, {
    status,
    headers: {
      ...headers,
      'x-request-id': requestId,
      ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
    },
  })
}
