/**
 * The rules of `parameters` in LoRAX's order: the first that a request breaks is its answer. Every text is LoRAX's own where LoRAX
 * has one, since clients and their users match on it. Lengths in tokens are checked by the worker, which has the tokenizer.
 */
import { limits, ServingError } from '@quiver/protocol'
import { adapterSource, idFault, isAdapterNamed, isTokenBroken } from './adapter-source.ts'
import type { GenerateBody, GenerateParameters } from './generate-schema.ts'
import { mergedRules } from './merged-adapters.ts'
import { grammarOf } from './structured-output.ts'

export interface CheckBounds {
  /** Longest prompt in tokens. */
  readonly inputTokens: number
  readonly bestOf: number
  readonly stopSequences: number
}

export interface Check {
  /** The field that the check is about. */
  readonly field: string
  readonly fails: (body: GenerateBody, bounds: CheckBounds) => boolean
  readonly message: string | ((body: GenerateBody, bounds: CheckBounds) => string)
}

/** Only for streams, and before everything else. */
export const streamChecks: readonly Check[] = [
  check('best_of', (p) => (p.best_of ?? 1) !== 1, '`best_of` != 1 is not supported when streaming tokens'),
  check(
    'decoder_input_details',
    (p) => p.decoder_input_details === true,
    '`decoder_input_details` == true is not supported when streaming tokens',
  ),
]

/** Before the request takes a place among the concurrent ones. */
export const admissionChecks: readonly Check[] = [
  {
    field: 'best_of',
    fails: ({ parameters }, { bestOf }) => (parameters.best_of ?? 1) > bestOf,
    message: ({ parameters }, { bestOf }) => bestOfRefusal(bestOf, parameters.best_of ?? 1),
  },
]

/** After it has one. */
export const parameterChecks: readonly Check[] = [
  check(
    'merged_adapters',
    (p) => isAdapterNamed(p) && isGiven(p.merged_adapters),
    'at most one of `adapter_id` or `adapters` may be provided',
  ),
  ...mergedRules.map(({ fails, message }) =>
    check(
      'merged_adapters',
      (p) => isGiven(p.merged_adapters) && fails(p.merged_adapters, adapterSource(p)),
      (p) => (isGiven(p.merged_adapters) ? message(p.merged_adapters, adapterSource(p)) : ''),
    ),
  ),
  check(
    'adapter_id',
    (p) => !isHeaderSafe(p.adapter_id ?? ''),
    '`adapter_id` must have only printable ASCII characters, without a space at either end, and at most 4096 of them',
  ),
  {
    field: 'adapter_id',
    fails: ({ parameters }) => nameFault(parameters) !== undefined,
    message: ({ parameters }) => nameFault(parameters) ?? '',
  },
  check('api_token', isTokenBroken, '`api_token` must have 1 to 512 printable ASCII characters and no spaces'),
  check('best_of', (p) => (p.best_of ?? 1) > 1 && !isSaidToSample(p), 'you must use sampling when `best_of` is > 1'),
  check('temperature', (p) => (p.temperature ?? 1) < 0, '`temperature` must be non-negative'),
  check('repetition_penalty', (p) => (p.repetition_penalty ?? 1) <= 0, '`repetition_penalty` must be strictly positive'),
  check('frequency_penalty', (p) => Math.abs(p.frequency_penalty ?? 0) > 2, '`frequency_penalty` must be >= -2.0 and <= 2.0'),
  check('presence_penalty', (p) => Math.abs(p.presence_penalty ?? 0) > 2, '`presence_penalty` must be >= -2.0 and <= 2.0'),
  // 1.0 itself is accepted although the text says otherwise: released servers do the same.
  check('top_p', (p) => isGiven(p.top_p) && (p.top_p <= 0 || p.top_p > 1), '`top_p` must be > 0.0 and < 1.0'),
  check(
    'typical_p',
    (p) => isGiven(p.typical_p) && (p.typical_p <= 0 || p.typical_p >= 1),
    '`typical_p` must be > 0.0 and < 1.0',
  ),
  check('top_k', (p) => isGiven(p.top_k) && p.top_k <= 0, '`top_k` must be strictly positive'),
  check(
    'return_k_alternatives',
    (p) => isGiven(p.return_k_alternatives) && p.return_k_alternatives <= 0,
    '`return_k_alternatives` must be strictly positive',
  ),
  check(
    'return_k_alternatives',
    (p) => (p.return_k_alternatives ?? 0) > limits.alternativeTokens,
    (p) => `\`return_k_alternatives\` must be <= ${limits.alternativeTokens}. Given: ${p.return_k_alternatives}`,
  ),
  check(
    'top_n_tokens',
    (p) => (p.top_n_tokens ?? 0) > limits.alternativeTokens,
    (p) => `\`top_n_tokens\` must be >= 0 and <= ${limits.alternativeTokens}. Given: ${p.top_n_tokens}`,
  ),
  check('max_new_tokens', (p) => p.max_new_tokens === 0, '`max_new_tokens` must be strictly positive'),
  {
    field: 'stop',
    fails: ({ parameters }, bounds) => stopSequences(parameters).length > bounds.stopSequences,
    message: ({ parameters }, bounds) =>
      `\`stop\` supports up to ${bounds.stopSequences} stop sequences. Given: ${stopSequences(parameters).length}`,
  },
  check(
    'stop',
    (p) => stopSequences(p).some((stop) => stop.length === 0 || stop.length > limits.stopSequenceCharacters),
    `\`stop\` sequences must have 1 to ${limits.stopSequenceCharacters} characters`,
  ),
  check('seed', (p) => (p.best_of ?? 1) > 1 && isGiven(p.seed), '`seed` must not be set when `best_of` > 1'),
  check(
    'response_format',
    (p) => faultOf(() => grammarOf(p.response_format)) !== undefined,
    (p) => faultOf(() => grammarOf(p.response_format)) ?? '',
  ),
  check(
    'grammar',
    (p) => isGiven(p.grammar) && isGiven(p.response_format) && p.response_format.type !== 'text',
    'at most one of `response_format` or `grammar` may be provided',
  ),
  check(
    'grammar',
    (p) => faultOf(() => grammarOf(p.grammar, 'grammar')) !== undefined,
    (p) => faultOf(() => grammarOf(p.grammar, 'grammar')) ?? '',
  ),
  { field: 'inputs', fails: ({ inputs }) => inputs === '', message: '`inputs` cannot be empty' },
  {
    field: 'truncate',
    fails: ({ parameters: { truncate } }, bounds) => isGiven(truncate) && (truncate === 0 || truncate > bounds.inputTokens),
    message: ({ parameters: { truncate } }, bounds) =>
      `\`truncate\` must be strictly positive and less than ${bounds.inputTokens}. Given: ${truncate}`,
  },
]

/** LoRAX has words of their own for a server without `best_of`. */
export function bestOfRefusal(most: number, given: number): string {
  return most === 1
    ? '`best_of` != 1 is not allowed for this endpoint'
    : `\`best_of\` must be > 0 and <= ${most}. Given: ${given}`
}

/** @throws ServingError `invalid_parameters` with the text of the first check that the body fails */
export function runChecks(checks: readonly Check[], body: GenerateBody, bounds: CheckBounds): void {
  const failed = checks.find((candidate) => candidate.fails(body, bounds))
  if (failed === undefined) return
  const { message } = failed
  throw new ServingError('invalid_parameters', typeof message === 'string' ? message : message(body, bounds))
}

/** The stop texts of a request, which may come as one string. */
export function stopSequences({ stop }: GenerateParameters): readonly string[] {
  if (!isGiven(stop)) return []
  return typeof stop === 'string' ? [stop] : stop
}

function check(
  field: keyof GenerateParameters,
  fails: (parameters: GenerateParameters) => boolean,
  message: string | ((parameters: GenerateParameters) => string),
): Check {
  return {
    field,
    fails: ({ parameters }) => fails(parameters),
    message: typeof message === 'string' ? message : ({ parameters }) => message(parameters),
  }
}

/** Any parameter of sampling counts here, whatever its value. */
function isSaidToSample(p: GenerateParameters): boolean {
  return p.do_sample === true || [p.temperature, p.top_k, p.top_p, p.typical_p].some(isGiven)
}

function isGiven<T>(value: T): value is Exclude<T, null | undefined> {
  return value !== null && value !== undefined
}

/** The id comes back in `x-adapter-id`, so it may hold only what a header value may. */
function isHeaderSafe(id: string): boolean {
  return /^[\x20-\x7e]{0,4096}$/.test(id) && id.trim() === id
}

function nameFault(parameters: GenerateParameters): string | undefined {
  return isAdapterNamed(parameters) ? idFault(adapterSource(parameters), parameters.adapter_id) : undefined
}

/** The text of what `work` throws on purpose. */
function faultOf(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof ServingError) return error.message
    throw error
  }
}
