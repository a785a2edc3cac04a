import type { ChatMessage, Prompt } from '@quiver/protocol'
import type { GenerateParameters } from '../generate-schema.ts'
import type { CommonFields } from './fields.ts'
import type { ToolUse } from './tools/tool-fields.ts'

/** What is gone on with; token ids are for embeddings alone. */
export type ApiPrompt = Exclude<Prompt, { kind: 'tokens' }>

/** A request of either `/v1` route in common words, as its body says it. */
export interface ApiRequest {
  readonly kind: 'chat' | 'completion'
  readonly model: string
  /** Whose request it is, in the client's words. */
  readonly user: string | undefined
  /** Parts what the tenant's requests share of their prompts. */
  readonly cacheSalt: string | undefined
  readonly prompts: readonly ApiPrompt[]
  /** Choices of each prompt, and how many runs they are the likeliest of. */
  readonly choices: number
  readonly runs: number
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly parameters: GenerateParameters
  readonly logitBias: Readonly<Record<string, number>>
  readonly stops: readonly string[]
  /** Most likely tokens beside each one; undefined without log-probabilities. */
  readonly logprobs: number | undefined
  /** Absent: the model is shown no tools, and what it says is text. */
  readonly toolUse?: ToolUse | undefined
  /** Begin the text with the prompt. */
  readonly echo: boolean
}

/** What a template reads of a message. */
export type ApiMessage = ChatMessage

/**
 * OpenAI's parameters in LoRAX's words, so that the same rules and the same worker hold for them. Without a temperature OpenAI's
 * default is 1: these routes sample unless it is 0, as LoRAX's do.
 */
export function generateParameters(fields: CommonFields, maxTokens: number | null | undefined): GenerateParameters {
  const { temperature, seed, stop } = fields
  return {
    adapter_source: fields.adapter_source,
    api_token: fields.api_token,
    do_sample: temperature !== 0,
    temperature,
    top_p: fields.top_p,
    top_k: fields.top_k,
    typical_p: fields.typical_p,
    repetition_penalty: fields.repetition_penalty,
    frequency_penalty: fields.frequency_penalty,
    presence_penalty: fields.presence_penalty,
    max_new_tokens: maxTokens,
    ignore_eos_token: fields.ignore_eos_token,
    stop,
    seed,
  }
}

/** The part of a request that both routes read alike. */
export function commonRequest(fields: CommonFields) {
  const { stop } = fields
  return {
    model: fields.model ?? '',
    user: fields.user ?? undefined,
    cacheSalt: fields.cache_salt ?? undefined,
    choices: fields.n ?? 1,
    stream: fields.stream ?? false,
    includeUsage: fields.stream_options?.include_usage ?? false,
    logitBias: fields.logit_bias ?? {},
    stops: typeof stop === 'string' ? [stop] : (stop ?? []),
  }
}
