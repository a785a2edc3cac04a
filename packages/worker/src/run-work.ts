/** What a run asks of the engine: its prompt in tokens, and what is to come of them. */
import { limits, type RunRequest, ServingError, type TextToken, type TokenizeRequest } from '@quiver/protocol'
import { embeddingPromptOf, type PromptLimits, promptOf } from './prompt.ts'
import type { Sampler } from './sampling/sampler.ts'
import type { StopSequences } from './sampling/stop-sequences.ts'
import type { Task } from './step/sequence.ts'
import { inTurns, SLICE_LENGTH, type Slices } from './tokenizer/slices.ts'
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
  if (request.prefillDetails) yield* refuseLongDetails(promptIds, deps.tokenizer)
  const { ignoreEos, alternatives, prefillDetails, sampling, grammar } = request
  const sampler = deps.createSampler(sampling, promptIds)
  const [stops, text] = [deps.createStops(request.stop), deps.tokenizer.stream()]
  const asked = { maxNewTokens, ignoreEos, alternatives, prefillDetails, sampling, grammar }
  return { promptIds, task: { kind: 'generate', ...asked, sampler, stops, text } }
}

/** JSON of one prompt token beside its text, in bytes: `{"id":,"text":,"logprob":},`, seven digits and the longest number. */
const TOKEN_BYTES = 64
/** `{"type":"prefill","tokens":[]}` and the line's end. */
const EVENT_BYTES = 32

/**
 * The prompt's tokens are told in one event; one that its reader does not take would end the run as a lost worker.
 * @throws ServingError `invalid_parameters`
 */
function* refuseLongDetails(promptIds: readonly number[], tokenizer: Tokenizer): Slices<void> {
  let bytes = EVENT_BYTES
  for (const [index, id] of promptIds.entries()) {
    if (index % SLICE_LENGTH === SLICE_LENGTH - 1) yield
    bytes += TOKEN_BYTES + Buffer.byteLength(JSON.stringify(tokenizer.decode([id], { keepSpecial: true })))
    if (bytes <= limits.runEventBytes) continue
    throw new ServingError(
      'invalid_parameters',
      `\`decoder_input_details\` (on /v1 \`echo\` with \`logprobs\`) would take more than ${limits.runEventBytes} bytes for a prompt of ` +
        `${promptIds.length} tokens: leave it out, or shorten the prompt to about ${index} tokens`,
    )
  }
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
