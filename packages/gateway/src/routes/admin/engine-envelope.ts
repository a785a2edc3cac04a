/** Errors as vLLM and SGLang answer them. */
import { httpStatus, ServingError, toServingError } from '@quiver/protocol'
import { envelopeResponse } from '../error-response.ts'
import { toAdminError } from './admin-envelope.ts'

/** A refusal in vLLM's words. */
export class EngineRefusal extends ServingError {
  readonly type: string

  constructor(code: 'invalid_request' | 'adapter_not_found', type: string, message: string) {
    super(code, message)
    this.type = type
  }
}

/** An adapter that cannot be loaded is vLLM's 400, whatever is wrong with it; what passes keeps its status. */
export function toVllmError(error: ServingError) {
  const status = statusOf(error)
  const type = error instanceof EngineRefusal ? error.type : typeOf(status)
  return { ...toAdminError(error), status, body: { error: { message: error.message, type, param: null, code: status } } }
}

/** SGLang knows no 404. */
export function toSglangError(error: ServingError) {
  const status = statusOf(error) === httpStatus.adapter_not_found ? httpStatus.invalid_request : statusOf(error)
  return { ...toAdminError(error), status, body: { success: false, error_message: error.message, loaded_adapters: {} } }
}

export function vllmErrorResponse(thrown: unknown, requestId: string): Response {
  return envelopeResponse(toVllmError(toServingError(thrown)), requestId, {})
}

export function sglangErrorResponse(thrown: unknown, requestId: string): Response {
  return envelopeResponse(toSglangError(toServingError(thrown)), requestId, {})
}

function statusOf({ code }: ServingError): number {
  return code === 'adapter_invalid' || code === 'invalid_parameters' ? httpStatus.invalid_request : httpStatus[code]
}

function typeOf(status: number): string {
  if (status === httpStatus.adapter_not_found) return 'NotFoundError'
  return status < httpStatus.internal ? 'BadRequestError' : 'InternalServerError'
}
