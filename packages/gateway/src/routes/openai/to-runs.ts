import { type RunRequest, ServingError, type WorkerInfo } from '@quiver/protocol'
import type { ClientLimits } from '../../client-limits.ts'
import { refuseLongAnswer } from '../answer-size.ts'
import { bestOfRefusal, parameterChecks, runChecks } from '../generate-checks.ts'
import { type RunContext, toRunRequest } from '../run-request.ts'
import type { ApiPrompt, ApiRequest } from './api-request.ts'
import { adapterIdOf } from './model-name.ts'

const SEEDS = 2n ** 64n
/** A conversation without any text is for its template to judge. */
const checksOf: Readonly<Record<ApiPrompt['kind'], typeof parameterChecks>> = {
  text: parameterChecks,
  chat: parameterChecks.filter(({ field }) => field !== 'inputs'),
}

/**
 * The runs that a request asks for, in the order of its choices: all of the first prompt, then those of the next. With a seed each
 * run of a prompt has its own: the given one, then the numbers after it.
 * @throws ServingError what is wrong with the request
 */
export function toRuns(
  request: ApiRequest,
  info: WorkerInfo,
  context: RunContext & { readonly clientLimits: ClientLimits },
): readonly RunRequest[] {
  const stranger = Object.keys(request.logitBias).find((id) => Number(id) >= info.model.vocabSize)
  if (stranger !== undefined) {
    throw new ServingError(
      'invalid_parameters',
      `\`logit_bias\` names token ${stranger}, but the model has only ${info.model.vocabSize} tokens`,
      { param: 'logit_bias' },
    )
  }
  const { bestOf } = context.clientLimits
  if (request.runs > request.choices && request.runs > bestOf) {
    throw new ServingError('invalid_parameters', bestOfRefusal(bestOf, request.runs), { param: 'best_of' })
  }
  const source = request.parameters.adapter_source
  const isInCatalogue = source === null || source === undefined || source === '' || source.toLowerCase() === 'store'
  const adapterId = adapterIdOf(request.model, { info, catalogue: context.catalogue, isInCatalogue })
  const parameters = { ...request.parameters, adapter_id: adapterId }
  const runs = request.prompts.flatMap((prompt) => {
    const body = { inputs: prompt.kind === 'text' ? prompt.text : '', parameters, stream: request.stream }
    runChecks(checksOf[prompt.kind], body, { inputTokens: info.limits.inputTokens, ...context.clientLimits })
    return Array.from({ length: request.runs }, (_, index) => {
      const seed = context.seed === undefined ? undefined : String((BigInt(context.seed) + BigInt(index)) % SEEDS)
      const run = toRunRequest(body, { ...context, seed, user: request.user }, prompt)
      const isBiased = Object.keys(request.logitBias).length > 0
      return {
        ...run,
        ...(request.cacheSalt === undefined ? {} : { cacheSalt: request.cacheSalt }),
        ...(request.toolUse?.grammar === undefined ? {} : { grammar: request.toolUse.grammar }),
        sampling: isBiased ? { ...run.sampling, logitBias: { ...request.logitBias } } : run.sampling,
        prefillDetails: request.echo && request.logprobs !== undefined,
        alternatives: request.logprobs ?? 0,
      }
    })
  })
  if (!request.stream) refuseLongLogprobs(request, info.limits.totalTokens)
  return runs
}

/** Without log-probabilities the answer is the text alone. */
function refuseLongLogprobs({ kind, parameters, logprobs, prompts, runs, choices }: ApiRequest, totalTokens: number): void {
  if (logprobs === undefined) return
  refuseLongAnswer({
    tokens: { field: 'max_tokens', value: Math.min(parameters.max_new_tokens ?? totalTokens, totalTokens) },
    alternatives: { field: kind === 'chat' ? 'top_logprobs' : 'logprobs', value: logprobs },
    runs: { field: runs > choices ? 'best_of' : 'n', value: runs * prompts.length },
  })
}
