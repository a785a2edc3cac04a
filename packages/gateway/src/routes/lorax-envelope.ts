import { type ErrorCode, httpStatus, type ServingError } from '@quiver/protocol'

/** An error as the LoRAX routes answer it. */
export interface LoraxError {
  readonly status: number
  /** In seconds, for failures that pass. */
  readonly retryAfter?: number
  readonly body: { readonly error: string; readonly error_type: string }
}

interface Row {
  readonly status: number
  /** LoRAX's clients know generation, incomplete_generation, overloaded and validation, and go by the status for others. */
  readonly type: string
  readonly text: (message: string) => string
  readonly retryAfter?: number
}

const same = (message: string) => message
const generation = (message: string) => `Request failed during generation: Server error: ${message}`

/** Whatever is wrong with an adapter, its source or its folder. */
const adapterFailure: Row = { status: 424, type: 'generation', text: generation }

const rows = {
  invalid_request: { status: 400, type: 'invalid_request', text: same },
  unauthenticated: { status: 401, type: 'unauthenticated', text: same },
  missing_right: { status: 403, type: 'missing_right', text: same },
  forbidden: adapterFailure,
  adapter_not_found: adapterFailure,
  adapter_invalid: adapterFailure,
  adapter_unavailable: adapterFailure,
  source_unavailable: adapterFailure,
  not_found: { status: 404, type: 'not_found', text: same },
  method_not_allowed: { status: 405, type: 'method_not_allowed', text: same },
  conflict: { status: 409, type: 'conflict', text: same },
  too_large: { status: 413, type: 'too_large', text: same },
  unsupported_media_type: { status: 415, type: 'unsupported_media_type', text: same },
  invalid_parameters: { status: 422, type: 'validation', text: (message) => `Input validation error: ${message}` },
  tool_error: { status: 422, type: 'tool_error', text: same },
  template_error: { status: 422, type: 'template_error', text: same },
  rate_limited: { status: 429, type: 'overloaded', text: same, retryAfter: 1 },
  overloaded: { status: 429, type: 'overloaded', text: () => 'Model is overloaded', retryAfter: 1 },
  draining: { status: 503, type: 'overloaded', text: same, retryAfter: 2 },
  not_ready: { status: 503, type: 'overloaded', text: same, retryAfter: 2 },
  // Not the 424 of a broken adapter: it is on its way, and the same request will do in a moment.
  adapter_arriving: { status: 503, type: 'overloaded', text: same, retryAfter: 5 },
  client_closed: { status: httpStatus.client_closed, type: 'incomplete_generation', text: same },
  internal: { status: 500, type: 'internal', text: same },
  worker_lost: { status: 500, type: 'incomplete_generation', text: (message) => `Incomplete generation: ${message}` },
  deadline_exceeded: { status: 504, type: 'incomplete_generation', text: (message) => `Incomplete generation: ${message}` },
} satisfies Record<ErrorCode, Row>

/**
 * The only place where a failure becomes an answer of the LoRAX routes.
 * @example toLoraxError(new ServingError('adapter_not_found', 'no adapter x')).status // 424
 */
export function toLoraxError(error: ServingError): LoraxError {
  const row: Row = rows[error.code]
  // What a worker has measured is better than a guess.
  const { retryAfterS = row.retryAfter } = error.context
  return {
    status: row.status,
    ...(typeof retryAfterS === 'number' ? { retryAfter: retryAfterS } : {}),
    body: { error: row.text(error.message), error_type: row.type },
  }
}
