import { assertNever, type Prompt, type RunRequest, ServingError } from '@quiver/protocol'
import type { Slices } from './tokenizer/slices.ts'
import type { Tokenizer } from './tokenizer/tokenizer.ts'

export interface PromptLimits {
  readonly tokenizer: Pick<Tokenizer, 'encodeSlices' | 'leastTokens' | 'applyChatTemplate'>
  /** Tokens that the model knows; some tokenizers have more. */
  readonly vocabSize: number
  /** Longest prompt in tokens. */
  readonly inputTokens: number
  /** Prompt and answer together in tokens. */
  readonly totalTokens: number
}

/**
 * A request's prompt in tokens, cut to its last `truncate` ones where asked for, and how many tokens may follow: as many as
 * fit when the request does not say. In slices, for long texts. The order of the checks and their texts are LoRAX's, whose clients match on them.
 * @throws ServingError `invalid_parameters`
 */
export function* promptOf(
  request: Pick<RunRequest, 'prompt' | 'truncate' | 'maxNewTokens'>,
  { tokenizer, vocabSize, inputTokens, totalTokens }: PromptLimits,
): Slices<{ readonly promptIds: readonly number[]; readonly maxNewTokens: number }> {
  const most = request.truncate === undefined ? totalTokens : Number.POSITIVE_INFINITY
  const ids = yield* idsOf(request.prompt, tokenizer, { most, last: request.truncate }, (least) =>
    tooMany(least, request.maxNewTokens ?? 0, totalTokens),
  )
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
  const stranger = strangerIn(promptIds, vocabSize)
  if (stranger !== undefined) {
    throw new ServingError(
      'invalid_parameters',
      `\`inputs\` hold token ${stranger} of the tokenizer, but the model has only ${vocabSize} tokens: leave its text out`,
    )
  }
  return { promptIds, maxNewTokens }
}

/**
 * The tokens of a text that is to be embedded, where no token has to follow.
 * @throws ServingError `invalid_parameters`
 */
export function* embeddingPromptOf(
  { prompt }: Pick<RunRequest, 'prompt'>,
  { tokenizer, vocabSize, inputTokens }: PromptLimits,
): Slices<readonly number[]> {
  const refused = (why: string) => new ServingError('invalid_parameters', `\`input\` ${why}`)
  const tooLong = (given: string) => refused(`must have at most ${inputTokens} tokens. Given: ${given}`)
  const ids = yield* idsOf(prompt, tokenizer, { most: inputTokens }, tooLong)
  if (ids.length === 0) throw refused('has no tokens')
  if (ids.length > inputTokens) throw tooLong(String(ids.length))
  const stranger = strangerIn(ids, vocabSize)
  if (stranger !== undefined) throw refused(`holds token ${stranger}, but the model has only ${vocabSize} tokens`)
  return ids
}

/**
 * Tokens are made on the event loop's thread: megabytes that cannot fit into `most` tokens are refused before, and where only
 * the `last` ones are wanted, not all are made.
 * @throws what `tooMany` makes of the count
 */
function* idsOf(
  prompt: Prompt,
  tokenizer: PromptLimits['tokenizer'],
  { most, last }: { readonly most: number; readonly last?: number | undefined },
  tooMany: (given: string) => ServingError,
): Slices<readonly number[]> {
  if (prompt.kind === 'tokens') return prompt.ids
  const { text, addSpecial } = textOf(prompt, tokenizer)
  if (last !== undefined) return yield* lastIdsOf(text, last, (part) => tokenizer.encodeSlices(part, { addSpecial }))
  const least = most === Number.POSITIVE_INFINITY ? 0 : tokenizer.leastTokens(text)
  if (least > most) throw tooMany(`at least ${least}`)
  return yield* tokenizer.encodeSlices(text, { addSpecial })
}

/** Characters that the end of a text is taken to have for each wanted token, and at least. */
const END_CHARACTERS_PER_TOKEN = 8
const END_CHARACTERS_MIN = 16 * 1024
/** Tokens made beyond the wanted ones: those at the cut, in the middle of a word, may be others than in the whole text. */
const TOKENS_AT_CUT = 64

/** At least the last `count` tokens of a text, made of its end alone where that has enough of them. */
function* lastIdsOf(text: string, count: number, encode: (part: string) => Slices<number[]>): Slices<readonly number[]> {
  let length = Math.max(END_CHARACTERS_MIN, count * END_CHARACTERS_PER_TOKEN)
  for (; length < text.length; length *= 4) {
    // Well-formed again: the cut may go through a pair of surrogates.
    const ids = yield* encode(text.slice(-length).toWellFormed())
    if (ids.length >= count + TOKENS_AT_CUT) return ids
  }
  return yield* encode(text)
}

/** A token that the engine would fail on, and with it everybody's step. */
function strangerIn(ids: readonly number[], vocabSize: number): number | undefined {
  return ids.find((id) => id >= vocabSize)
}

/** A rendered conversation has the special tokens that its template wrote, and no more. */
function textOf(
  prompt: Exclude<Prompt, { kind: 'tokens' }>,
  tokenizer: PromptLimits['tokenizer'],
): { readonly text: string; readonly addSpecial: boolean } {
  switch (prompt.kind) {
    case 'text':
      return { text: prompt.text, addSpecial: prompt.addSpecial ?? true }
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
