import { toServingError } from '@quiver/protocol'
import { envelopeResponse } from '../error-response.ts'
import { toOpenaiError } from './envelope.ts'

/** The answer for anything thrown on a `/v1` route. */
export function openaiErrorResponse(thrown: unknown, requestId: string, headers: Record<string, string> = {}): Response {
  return envelopeResponse(toOpenaiError(toServingError(thrown)), requestId, headers)
}
