import { assertNever, type Prompt, type RunRequest, ServingError } from '@quiver/protocol'
import type { Tokenizer } from './tokenizer/tokenizer.ts'

export interface PromptLimits {
  readonly tokenizer: Pick<Tokenizer, 'encode' | 'leastTokens' | 'applyChatTemplate'>
  /** Tokens that the model knows; some tokenizers have more. */
  readonly vocabSize: number
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
  request: Pick<RunRequest, 'prompt' | 'truncate' | 'maxNewTokens'>,
  { tokenizer, vocabSize, inputTokens, totalTokens }: PromptLimits,
): { readonly promptIds: readonly number[]; readonly maxNewTokens: number } {
  const { text, addSpecial } = textOf(request.prompt, tokenizer)
  // Tokens are made on the event loop's thread: megabytes that cannot fit are refused before.
  const least = request.truncate === undefined ? tokenizer.leastTokens(text) : 0
  if (least > totalTokens) throw tooMany(`at least ${least}`, request.maxNewTokens ?? 0, totalTokens)
  const ids = tokenizer.encode(text, { addSpecial })
  const promptIds = request.truncate === undefined ? ids : ids.slice(-request.truncate)
  if (promptIds.length === 0) throw new ServingError('invalid_parameters', '`inputs` cannot be empty')
  const maxNewTokens = request.maxNewTokens ?? Math.max(0, totalTokens - promptIds.length)
  if (promptIds.length + maxNewTokens > totalTokens) throw tooMany(String(promptIds.length), maxNewTokens, totalTokens)
  if (promptIds.length > inputTokens) {
    throw new ServingError(
      'invalid_parameters',
      `\`inputs\` must have less than ${inputTokens} tokens. Given: ${promptIds.length}`,
    )
  }
  // The engine would fail on it, and with it everybody's step.
  const stranger = promptIds.find((id) => id >= vocabSize)
  if (stranger !== undefined) {
    throw new ServingError(
      'invalid_parameters',
      `\`inputs\` hold token ${stranger} of the tokenizer, but the model has only ${vocabSize} tokens: leave its text out`,
    )
  }
  return { promptIds, maxNewTokens }
}

/** A rendered conversation has the special tokens that its template wrote, and no more. */
function textOf(prompt: Prompt, tokenizer: PromptLimits['tokenizer']): { readonly text: string; readonly addSpecial: boolean } {
  switch (prompt.kind) {
    case 'text':
      return { text: prompt.text, addSpecial: true }
    case 'chat':
      return { text: tokenizer.applyChatTemplate(prompt.messages, prompt), addSpecial: false }
    default:
      return assertNever(prompt)
  }
}

function tooMany(given: string, maxNewTokens: number, totalTokens: number): ServingError {
  return new ServingError(
    'invalid_parameters',
    `\`inputs\` tokens + \`max_new_tokens\` must be <= ${totalTokens}. ` +
      `Given: ${given} \`inputs\` tokens and ${maxNewTokens} \`max_new_tokens\``,
  )
}
