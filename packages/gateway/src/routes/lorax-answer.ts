/** What the LoRAX routes answer: bodies, events and headers, field by field in LoRAX's order. */
import type { DoneEvent, FinishReason, RunEvent, TokenAlternative, TokenEvent, TokenLogprob } from '@quiver/protocol'
import type { Placed } from '../worker/worker-source.ts'
import type { GenerateBody } from './generate-schema.ts'
import { type LongList, longList } from './json-answer.ts'

type PrefillEvent = Extract<RunEvent, { type: 'prefill' }>

export interface LoraxToken {
  readonly id: number
  readonly text: string
  readonly logprob: number
  readonly special: boolean
  readonly alternative_tokens?: readonly TokenLogprob[]
  /** It had been guessed and took no step of its own. */
  readonly skipped: boolean
}

/** A number of any size in JSON; JSON.stringify writes it digit by digit. */
type RawNumber = { readonly rawJSON: string }

export interface LoraxDetails {
  readonly finish_reason: FinishReason
  readonly prompt_tokens: number
  readonly generated_tokens: number
  readonly skipped_tokens: number
  readonly seed: RawNumber | null
  readonly prefill: LongList<{ readonly id: number; readonly text: string; readonly logprob: number | null }>
  readonly tokens: LongList<LoraxToken>
  /** TGI's: the likeliest tokens at each place. */
  readonly top_tokens?: LongList<readonly TopToken[]>
  readonly best_of_sequences?: readonly LoraxSequence[]
}

/** The field order is TGI's. */
export interface TopToken {
  readonly id: number
  readonly text: string
  readonly logprob: number
  readonly special: boolean
}

/** A run that was not the best. */
export interface LoraxSequence extends Omit<LoraxDetails, 'prompt_tokens' | 'skipped_tokens' | 'best_of_sequences'> {
  readonly generated_text: string
}

export interface LoraxAnswer {
  readonly generated_text: string
  readonly details?: LoraxDetails
}

/** Everything that came of one run. */
export interface RunResult {
  readonly prefill: PrefillEvent['tokens']
  readonly tokens: readonly TokenEvent[]
  readonly done: DoneEvent
}

/** @param others the runs of `best_of` that were not the best */
export function toLoraxAnswer(body: GenerateBody, best: RunResult, others: readonly RunResult[] = []): LoraxAnswer {
  const { details, decoder_input_details } = body.parameters
  const { done } = best
  const generated_text = fullText(body, done)
  if (details !== true && decoder_input_details !== true) return { generated_text }
  const sequences = others.map(
    (other): LoraxSequence => ({
      generated_text: fullText(body, other.done),
      finish_reason: other.done.finishReason,
      generated_tokens: other.done.generatedTokens,
      ...sequenceDetails(body, other),
    }),
  )
  return {
    generated_text,
    details: {
      finish_reason: done.finishReason,
      prompt_tokens: done.promptTokens,
      generated_tokens: done.generatedTokens,
      skipped_tokens: done.skippedTokens ?? 0,
      ...sequenceDetails(body, best),
      ...(sequences.length === 0 ? {} : { best_of_sequences: sequences }),
    },
  }
}

function sequenceDetails(body: GenerateBody, { prefill, tokens, done }: RunResult) {
  return {
    seed: rawSeed(done),
    prefill: longList(prefill, ({ id, text, logprob }) => ({ id, text, logprob: logprob ?? null })),
    tokens: longList(tokens, (token) => toLoraxToken(body, token)),
    ...(hasTopTokens(body) ? { top_tokens: longList(tokens, (token) => topTokens(body, token)) } : {}),
  }
}

function hasTopTokens({ parameters }: GenerateBody): boolean {
  return (parameters.top_n_tokens ?? 0) > 0
}

function topTokens({ parameters }: GenerateBody, { alternatives = [] }: TokenEvent): readonly TopToken[] {
  return alternatives
    .slice(0, parameters.top_n_tokens ?? 0)
    .map(({ id, text, logprob, special }) => ({ id, text, logprob, special }))
}

/** One event of a stream; with `done` it is the last one. */
export function toLoraxEvent(body: GenerateBody, token: TokenEvent, done?: DoneEvent): object {
  const withDetails = done !== undefined && body.parameters.details === true
  return {
    token: toLoraxToken(body, token),
    ...(hasTopTokens(body) ? { top_tokens: topTokens(body, token) } : {}),
    generated_text: done === undefined ? null : fullText(body, done),
    details: withDetails
      ? {
          finish_reason: done.finishReason,
          prompt_tokens: done.promptTokens,
          generated_tokens: done.generatedTokens,
          seed: rawSeed(done),
        }
      : null,
  }
}

export interface HeaderContext {
  readonly requestId: string
  readonly modelId: string
  readonly device: string
  readonly adapter?: { readonly id: string; readonly source: string; readonly digest?: string }
  /** Where it is computed; of several runs the first. */
  readonly placed: Placed | undefined
}

/** Headers that are known before the first token. */
export function commonHeaders(body: Pick<GenerateBody, 'inputs'>, context: HeaderContext): Record<string, string> {
  const { adapter, placed } = context
  return {
    'x-request-id': context.requestId,
    'x-compute-type': `${context.device}+optimized`,
    'x-compute-characters': String(characterCount(body.inputs)),
    'x-model-id': headerText(context.modelId),
    ...(adapter === undefined ? {} : { 'x-adapter-id': adapter.id, 'x-adapter-source': adapter.source }),
    ...(adapter?.digest === undefined ? {} : { 'x-adapter-digest': adapter.digest }),
    ...(placed === undefined ? {} : { 'x-worker-id': placed.workerId, 'x-placement': placed.kind }),
  }
}

/** Headers with the counts and times of a finished run, in whole milliseconds. */
export function timingHeaders(
  done: DoneEvent,
  times: { readonly validationMs: number; readonly totalMs: number },
): Record<string, string> {
  const afterFirstMs = Math.max(0, done.queueMs + done.inferenceMs - done.firstTokenMs)
  const whole = (ms: number) => String(Math.round(ms))
  return {
    'x-compute-time': whole(times.totalMs),
    'x-total-time': whole(times.totalMs),
    'x-validation-time': whole(times.validationMs),
    'x-queue-time': whole(done.queueMs),
    'x-inference-time': whole(done.inferenceMs),
    'x-time-per-token': whole(done.inferenceMs / Math.max(1, done.generatedTokens)),
    'x-time-to-first-token': whole(times.validationMs + done.firstTokenMs),
    'x-time-per-output-token': whole(afterFirstMs / Math.max(1, done.generatedTokens - 1)),
    'x-prompt-tokens': String(done.promptTokens),
    'x-generated-tokens': String(done.generatedTokens),
    'x-skipped-tokens': String(done.skippedTokens ?? 0),
    'x-total-tokens': String(done.promptTokens + done.generatedTokens),
  }
}

function toLoraxToken({ parameters }: GenerateBody, token: TokenEvent): LoraxToken {
  const { id, text, logprob, special, alternatives, skipped = false } = token
  const wanted = parameters.return_k_alternatives ?? 0
  return {
    id,
    text,
    logprob,
    special,
    ...(wanted === 0 || alternatives === undefined ? {} : { alternative_tokens: alternatives.slice(0, wanted).map(toLogprob) }),
    skipped,
  }
}

function toLogprob({ id, text, logprob }: TokenAlternative): TokenLogprob {
  return { id, text, logprob }
}

function fullText(body: GenerateBody, done: DoneEvent): string {
  return body.parameters.return_full_text === true ? body.inputs + done.generatedText : done.generatedText
}

function rawSeed({ seed }: DoneEvent): RawNumber | null {
  return seed === undefined ? null : rawJson(seed)
}

/** JSON.rawJSON is in every Node since 21, but not yet in the compiler's library. */
const { rawJSON: rawJson } = JSON as unknown as { rawJSON(text: string): RawNumber }

/** Counted as LoRAX does: by code points. */
function characterCount(text: string): number {
  let count = text.length
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit >= 0xd800 && unit < 0xdc00) count--
  }
  return count
}

function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?')
}
