/** What a run asks of the engine: its prompt in tokens, and what is to come of them. */
import { limits, type RunRequest, ServingError, type TextToken, type TokenizeRequest } from '@quiver/protocol'
import { embeddingPromptOf, type PromptLimits, promptOf } from './prompt.ts'
import type { Sampler } from './sampling/sampler.ts'
import type { StopSequences } from './sampling/stop-sequences.ts'
import type { Task } from './step/sequence.ts'
import { inTurns, type Slices } from './tokenizer/slices.ts'
import type { Tokenizer } from './tokenizer/tokenizer.ts'

export interface Work {
  readonly promptIds: readonly number[]
  readonly task: Task
}

export interface WorkDeps extends PromptLimits {
  readonly tokenizer: Tokenizer
  readonly createSampler: (parameters: RunRequest['sampling'], promptIds: readonly number[]) => Sampler
  readonly createStops: (stops: readonly string[]) => StopSequences
}

/** In slices, for long prompts. @throws ServingError `invalid_parameters`, `template_error` */
export function* workOf(request: RunRequest, deps: WorkDeps): Slices<Work> {
  if (request.goal === 'embedding') return { promptIds: yield* embeddingPromptOf(request, deps), task: { kind: 'embed' } }
  const { promptIds, maxNewTokens } = yield* promptOf(request, deps)
  const { ignoreEos, alternatives, prefillDetails } = request
  const sampler = deps.createSampler(request.sampling, promptIds)
  const [stops, text] = [deps.createStops(request.stop), deps.tokenizer.stream()]
  const task = { kind: 'generate', maxNewTokens, ignoreEos, alternatives, prefillDetails, sampler, stops, text } as const
  return { promptIds, task }
}

/** The tokens of a text, made a slice in each turn. @throws ServingError `invalid_parameters` for a text that is too long */
export async function tokensOf({ text, addSpecial }: TokenizeRequest, tokenizer: Tokenizer): Promise<TextToken[]> {
  if (text.length > limits.tokenizeCharacters) {
    throw new ServingError(
      'invalid_parameters',
      `\`inputs\` must have at most ${limits.tokenizeCharacters} characters. Given: ${text.length}`,
    )
  }
  return await inTurns(tokenizer.tokenizeSlices(text, { addSpecial }))
}
