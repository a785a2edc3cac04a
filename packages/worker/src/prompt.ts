import { type RunRequest, ServingError } from '@quiver/protocol'
import type { Tokenizer } from './tokenizer/tokenizer.ts'

export interface PromptLimits {
  readonly tokenizer: Pick<Tokenizer, 'encode'>
  /** Longest prompt in tokens. */
  readonly inputTokens: number
  /** Prompt and answer together in tokens. */
  readonly totalTokens: number
}

/**
 * A request's prompt in tokens, cut to its last `truncate` ones where asked for, and how many tokens may follow: as many as
 * fit when the request does not say. The order of the checks and their texts are LoRAX's, whose clients match on them.
 * @throws ServingError `invalid_parameters`
 */
export function promptOf(
  request: Pick<RunRequest, 'inputs' | 'truncate' | 'maxNewTokens'>,
  { tokenizer, inputTokens, totalTokens }: PromptLimits,
): { readonly promptIds: readonly number[]; readonly maxNewTokens: number } {
  const ids = tokenizer.encode(request.inputs)
  const promptIds = request.truncate === undefined ? ids : ids.slice(-request.truncate)
  if (promptIds.length === 0) throw new ServingError('invalid_parameters', '`inputs` cannot be empty')
  const maxNewTokens = request.maxNewTokens ?? Math.max(0, totalTokens - promptIds.length)
  if (promptIds.length + maxNewTokens > totalTokens) {
    throw new ServingError(
      'invalid_parameters',
      `\`inputs\` tokens + \`max_new_tokens\` must be <= ${totalTokens}. ` +
        `Given: ${promptIds.length} \`inputs\` tokens and ${maxNewTokens} \`max_new_tokens\``,
    )
  }
  if (promptIds.length > inputTokens) {
    throw new ServingError(
      'invalid_parameters',
      `\`inputs\` must have less than ${inputTokens} tokens. Given: ${promptIds.length}`,
    )
  }
  return { promptIds, maxNewTokens }
}
