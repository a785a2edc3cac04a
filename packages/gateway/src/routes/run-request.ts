import type { AdapterRef, Prompt, RunRequest, SamplingParameters } from '@quiver/protocol'
import { anyone } from '../auth/guard.ts'
import type { RunShare } from '../auth/run-share.ts'
import type { CatalogueView } from '../catalogue/catalogue.ts'
import { adapterSource, isAdapterNamed, namedRef, registeredRef } from './adapter-source.ts'
import { stopSequences } from './generate-checks.ts'
import type { GenerateBody, GenerateParameters } from './generate-schema.ts'
import { mergedRef } from './merged-adapters.ts'
import { grammarOf } from './structured-output.ts'

export interface RunContext {
  readonly requestId: string
  /** The seed's exact digits, where the request gave one. */
  readonly seed: string | undefined
  /** Draws the seed of a request that samples without one: a whole number below 2^53. */
  readonly drawSeed: () => number
  readonly deadlineMs: number
  /** For whom the run is. */
  readonly tenant: string
  /** Beside other tenants, and among its own; absent: as everybody's. */
  readonly share?: RunShare | undefined
  /** Which of its users, where the request says so; decides who gets a canary. */
  readonly user?: string | undefined
  /** What that tenant may use. */
  readonly catalogue: Pick<CatalogueView, 'resolve'>
  /** The base model that its workers serve; absent: whichever there is. */
  readonly base?: string
}

/**
 * Says a checked request in the words of the worker.
 * @param prompt instead of what the body's `inputs` are; a conversation is rendered with the adapter's own template where it has one
 * @throws ServingError `adapter_not_found`, `adapter_unavailable`
 */
export function toRunRequest(body: GenerateBody, context: RunContext, prompt: Prompt = promptOf(body)): RunRequest {
  const { parameters } = body
  const { adapter, template } = chosenAdapter(parameters, forUser(context))
  return {
    requestId: context.requestId,
    tenant: context.tenant,
    ...context.share,
    adapter,
    ...given('base', context.base),
    prompt: prompt.kind === 'chat' && template !== undefined ? { ...prompt, template } : prompt,
    sampling: samplingParameters(parameters, context),
    ...given('maxNewTokens', parameters.max_new_tokens),
    stop: [...stopSequences(parameters)],
    ignoreEos: parameters.ignore_eos_token ?? false,
    ...given('grammar', grammarOf(parameters.response_format) ?? grammarOf(parameters.grammar, 'grammar')),
    ...given('truncate', parameters.truncate),
    prefillDetails: parameters.decoder_input_details ?? false,
    alternatives: Math.max(parameters.return_k_alternatives ?? 0, parameters.top_n_tokens ?? 0),
    deadlineMs: context.deadlineMs,
  }
}

function promptOf({ inputs, parameters }: GenerateBody): Prompt {
  // A lone surrogate is not text; tokenizers and UTF-8 take the replacement character for it.
  const text = inputs.toWellFormed()
  if (parameters.apply_chat_template !== true) return { kind: 'text', text }
  return { kind: 'chat', messages: [{ role: 'user', content: text }], addGenerationPrompt: true }
}

/** The same request for another draw of its own. */
export function withFreshSeed(request: RunRequest, drawSeed: () => number): RunRequest {
  if (!request.sampling.sample) return request
  return { ...request, sampling: { ...request.sampling, seed: String(drawSeed()) } }
}

/**
 * Samples when asked to, or when any parameter changes the distribution: `do_sample`, a temperature other than 1, `top_k`,
 * a `top_p` or `typical_p` below 1. A temperature of 0 is greedy whatever else is set. So it is in LoRAX and TGI.
 */
export function isSampling(p: GenerateParameters): boolean {
  const temperature = p.temperature ?? 1
  if (temperature === 0) return false
  return p.do_sample === true || temperature !== 1 || (p.top_k ?? 0) !== 0 || (p.top_p ?? 1) < 1 || (p.typical_p ?? 1) < 1
}

/**
 * The catalogue as this request's user gets it: the user that it names, else its tenant, and on a server where all have the same
 * tenant each request for itself.
 */
function forUser({ catalogue, user, tenant, requestId }: RunContext): RunContext['catalogue'] {
  const sticky = user ?? (tenant === anyone.tenant ? requestId : tenant)
  return { resolve: (text) => catalogue.resolve(text, sticky) }
}

function samplingParameters(p: GenerateParameters, context: RunContext): SamplingParameters {
  const penalties = {
    ...given('repetitionPenalty', p.repetition_penalty),
    ...given('frequencyPenalty', p.frequency_penalty),
    ...given('presencePenalty', p.presence_penalty),
    ...(p.watermark === true ? { watermark: true as const } : {}),
  }
  if (!isSampling(p)) return { sample: false, ...penalties }
  return {
    sample: true,
    ...given('temperature', p.temperature),
    ...given('topK', p.top_k),
    ...given('topP', p.top_p),
    ...given('typicalP', p.typical_p),
    ...penalties,
    seed: context.seed ?? String(context.drawSeed()),
  }
}

/** @returns also the chat template of a registered adapter that has one of its own; a merge of several has the base model's */
function chosenAdapter(
  parameters: GenerateParameters,
  catalogue: RunContext['catalogue'],
): { readonly adapter: AdapterRef; readonly template?: string | undefined } {
  const refOf = (id: string) => namedRef(id, parameters, catalogue)
  const { merged_adapters } = parameters
  if (merged_adapters !== null && merged_adapters !== undefined) return { adapter: mergedRef(merged_adapters, refOf) }
  if (!isAdapterNamed(parameters)) return { adapter: { kind: 'base' } }
  if (adapterSource(parameters) !== 'store') return { adapter: refOf(parameters.adapter_id) }
  const found = catalogue.resolve(parameters.adapter_id)
  return { adapter: registeredRef(found), template: found.chatTemplate }
}

/** `{ [name]: value }`, or nothing for null and undefined: an absent field switches its rule off. */
function given<N extends string, V>(name: N, value: V | null | undefined): { [K in N]?: V } {
  return value === null || value === undefined ? {} : ({ [name]: value } as { [K in N]: V })
}
