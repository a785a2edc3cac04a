import { type ErrorCode, httpStatus, type ServingError } from '@quiver/protocol'
import { toLoraxError } from '../lorax-envelope.ts'

/** An error as the `/v1` routes answer it, and as an event of their streams. */
export interface OpenaiError {
  readonly status: number
  /** In seconds, for failures that pass. */
  readonly retryAfter?: number
  readonly body: {
    readonly error: { readonly message: string; readonly type: string; readonly code: ErrorCode; readonly param: string | null }
    /** LoRAX's type, which huggingface_hub goes by. */
    readonly error_type: string
  }
}

/**
 * The only place where a failure becomes an answer of the `/v1` routes. Statuses are those of the codes, but for a full house:
 * that is 429 as on the LoRAX routes, which OpenAI's clients wait and retry on.
 * @example toOpenaiError(new ServingError('adapter_not_found', 'no adapter x')).status // 404
 */
export function toOpenaiError(error: ServingError): OpenaiError {
  const lorax = toLoraxError(error)
  const status = error.code === 'overloaded' ? 429 : httpStatus[error.code]
  const { param } = error.context
  return {
    status,
    ...(lorax.retryAfter === undefined ? {} : { retryAfter: lorax.retryAfter }),
    body: {
      error: {
        message: error.message,
        type: typeOf(status),
        code: error.code,
        param: typeof param === 'string' ? param : null,
      },
      error_type: lorax.body.error_type,
    },
  }
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error'
  if (status === 403) return 'permission_error'
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
