/** What the `/v1` routes answer, field by field as OpenAI documents it. */
import type { DoneEvent, TokenEvent } from '@quiver/protocol'
import type { RunResult } from '../lorax-answer.ts'
import { AnswerText, type TextPiece } from './answer-text.ts'
import type { ApiRequest } from './api-request.ts'
import { characters, chatLogprobs, completionLogprobs, type ListedToken } from './logprobs.ts'
import { ChatContent, type ContentDelta } from './tools/chat-content.ts'

export type FinishReason = 'length' | 'stop' | 'tool_calls'

/** What every body and chunk of one answer has in common. */
export interface AnswerHead {
  readonly id: string
  /** Seconds since 1970. */
  readonly created: number
  /** As the request said it, or the base model's id. */
  readonly model: string
  readonly system_fingerprint: string
}

export interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: {
    /** Of the prompt tokens, those that an earlier request had computed already. */
    readonly cached_tokens: number
  }
}

/** Prompts count once, however many choices they have; every generated token counts. */
export function usageOf(runs: readonly DoneEvent[], runsOfEachPrompt: number): Usage {
  const prompts = runs.filter((_, at) => at % runsOfEachPrompt === 0)
  const prompt_tokens = prompts.reduce((sum, run) => sum + run.promptTokens, 0)
  const cached_tokens = prompts.reduce((sum, run) => sum + (run.cachedTokens ?? 0), 0)
  const completion_tokens = runs.reduce((sum, run) => sum + run.generatedTokens, 0)
  const total_tokens = prompt_tokens + completion_tokens
  return { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details: { cached_tokens } }
}

/** A stop text that was found counts even where the last allowed token completed it. */
function finishReason(done: DoneEvent, isStopped: boolean): 'length' | 'stop' {
  return done.finishReason === 'length' && !isStopped ? 'length' : 'stop'
}

const objects = {
  chat: { whole: 'chat.completion', chunk: 'chat.completion.chunk' },
  completion: { whole: 'text_completion', chunk: 'text_completion' },
} as const

export function wholeAnswer(request: ApiRequest, head: AnswerHead, choices: readonly object[], usage: Usage): object {
  const { id, created, model, system_fingerprint } = head
  return { id, object: objects[request.kind].whole, created, model, choices, usage, system_fingerprint }
}

/** One chunk of a stream. @param usage given in the last one of a stream that wants it */
export function chunk(request: ApiRequest, head: AnswerHead, choices: readonly object[], usage?: Usage): object {
  const { id, created, model, system_fingerprint } = head
  const counted = request.includeUsage ? { usage: usage ?? null } : {}
  return { id, object: objects[request.kind].chunk, created, model, system_fingerprint, choices, ...counted }
}

/** A choice of a whole answer. */
export function wholeChoice(request: ApiRequest, { id }: AnswerHead, index: number, result: RunResult): object {
  const text = new AnswerText(request.stops)
  const pieces = [...result.tokens.map((token) => text.push(token)), text.end(result.done)]
  const piece: TextPiece = {
    text: pieces.map((one) => one.text).join(''),
    tokens: pieces.flatMap((one) => one.tokens),
  }
  const finish_reason = finishReason(result.done, text.isStopped)
  if (request.kind === 'chat') {
    const content = chatContent(request, id, index)
    content.push(piece.text)
    content.end()
    return {
      index,
      message: { role: 'assistant', ...content.message(), refusal: null },
      logprobs: request.logprobs === undefined ? null : chatLogprobs(piece.tokens, request.logprobs),
      finish_reason: content.finishReason(finish_reason),
    }
  }
  const echoed = echoOf(request, index)
  const listed: readonly ListedToken[] = [...(request.echo ? result.prefill : []), ...piece.tokens]
  return {
    index,
    text: echoed + piece.text,
    logprobs: request.logprobs === undefined ? null : completionLogprobs(listed, request.logprobs, 0),
    finish_reason,
  }
}

/** The prompt's text that a choice begins with. */
export function echoOf(request: ApiRequest, index: number): string {
  const prompt = request.prompts[Math.floor(index / request.choices)]
  return request.echo && prompt?.kind === 'text' ? prompt.text : ''
}

function chatContent({ toolUse }: ApiRequest, answerId: string, index: number): ChatContent {
  return new ChatContent(toolUse?.openReader(), `${answerId}/${index}`)
}

/** The choices of a stream, chunk by chunk. */
export class StreamedChoice {
  readonly #request: ApiRequest
  readonly #index: number
  readonly #text: AnswerText
  readonly #content: ChatContent
  /** Of which the text is still held back. */
  #untold: TokenEvent[] = []
  #prefill: RunResult['prefill'] = []
  #isOpen = false
  /** Characters sent, for the offsets of completions. */
  #sent = 0

  constructor(request: ApiRequest, { id }: AnswerHead, index: number) {
    this.#request = request
    this.#index = index
    this.#text = new AnswerText(request.stops)
    this.#content = chatContent(request, id, index)
  }

  /** The prompt's tokens; they may come twice when a worker was lost, and the later ones count. */
  notePrefill(prefill: RunResult['prefill']): void {
    this.#prefill = prefill
  }

  /** The first chunk's choice, with the role or the echo; undefined when it was sent already. */
  open(): object | undefined {
    if (this.#isOpen) return undefined
    this.#isOpen = true
    if (this.#request.kind === 'chat') {
      // Where the model may call, nobody knows yet whether there will be a content.
      const content = this.#request.toolUse === undefined ? '' : null
      return this.#choice({ delta: { role: 'assistant', content, refusal: null } }, null, null)
    }
    const echoed = echoOf(this.#request, this.#index)
    return echoed === '' ? undefined : this.#completion(echoed, this.#prefill, null)
  }

  push(token: TokenEvent): readonly object[] {
    return this.#piece(this.#text.push(token))
  }

  /** The rest of the text, if there is any, and the reason of the end. */
  end(done: DoneEvent): readonly object[] {
    const rest = this.#piece(this.#text.end(done))
    const reason = finishReason(done, this.#text.isStopped)
    if (this.#request.kind === 'completion') return [...rest, this.#completion('', [], reason)]
    const held = this.#deltas(this.#content.end())
    return [...rest, ...held, this.#choice({ delta: {} }, this.#logprobs(), this.#content.finishReason(reason))]
  }

  #piece({ text, tokens }: TextPiece): readonly object[] {
    const { logprobs, kind, toolUse } = this.#request
    if (text === '' && (logprobs === undefined || tokens.length === 0)) return []
    if (kind === 'completion') return [this.#completion(text, tokens, null)]
    this.#untold.push(...tokens)
    const deltas = this.#content.push(text)
    return this.#deltas(deltas.length === 0 && toolUse === undefined ? [{ content: '' }] : deltas)
  }

  #deltas(deltas: readonly ContentDelta[]): readonly object[] {
    return deltas.map((delta) => this.#choice({ delta }, this.#logprobs(), null))
  }

  /** Of the tokens that were not told yet, which go with the next chunk. */
  #logprobs(): object | null {
    const { logprobs } = this.#request
    if (logprobs === undefined || this.#untold.length === 0) return null
    return chatLogprobs(this.#untold.splice(0), logprobs)
  }

  #completion(text: string, tokens: readonly ListedToken[], reason: FinishReason | null): object {
    const { logprobs } = this.#request
    const listed = logprobs === undefined || tokens.length === 0 ? null : completionLogprobs(tokens, logprobs, this.#sent)
    this.#sent += characters(text)
    return this.#choice({ text }, listed, reason)
  }

  #choice(content: object, logprobs: object | null, finish_reason: FinishReason | null): object {
    return { index: this.#index, ...content, logprobs, finish_reason }
  }
}
