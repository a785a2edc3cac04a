import { createHash } from 'node:crypto'
import type { CallPart, CallReader } from './call-reader.ts'

export interface ToolCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

/** What a chunk of a stream says of a message; put together they are the message. */
export type ContentDelta =
  | { readonly content: string }
  | {
      readonly tool_calls: readonly [
        { readonly index: number } & Partial<Omit<ToolCall, 'function'>> & Pick<ToolCall, 'function'>,
      ]
    }
  | { readonly tool_calls: readonly [{ readonly index: number; readonly function: Pick<ToolCall['function'], 'arguments'> }] }

/** The text and the calls of one answer, gathered while it comes. */
export class ChatContent {
  readonly #reader: CallReader | undefined
  readonly #answerId: string
  #text = ''
  readonly #calls: ToolCall[] = []

  /** @param answerId different for every choice of every answer */
  constructor(reader: CallReader | undefined, answerId: string) {
    this.#reader = reader
    this.#answerId = answerId
  }

  push(text: string): readonly ContentDelta[] {
    if (this.#reader !== undefined) return this.#reader.push(text).map((part) => this.#take(part))
    return text === '' ? [] : [this.#take({ kind: 'text', text })]
  }

  end(): readonly ContentDelta[] {
    return this.#reader?.end().map((part) => this.#take(part)) ?? []
  }

  /** As OpenAI has it: no content beside calls, unless the model said something. */
  message(): { readonly content: string | null; readonly tool_calls?: readonly ToolCall[] } {
    if (this.#calls.length === 0) return { content: this.#text }
    return { content: this.#text === '' ? null : this.#text, tool_calls: this.#calls }
  }

  /** @param reason what it would be of a text */
  finishReason(reason: 'length' | 'stop'): 'length' | 'stop' | 'tool_calls' {
    return this.#calls.length === 0 ? reason : (this.#reader?.reasonOf(reason) ?? reason)
  }

  #take(part: CallPart): ContentDelta {
    switch (part.kind) {
      case 'text':
        this.#text += part.text
        return { content: part.text }
      case 'call': {
        const index = this.#calls.length
        const call: ToolCall = {
          id: callId(`${this.#answerId}/${index}`),
          type: 'function',
          function: { name: part.name, arguments: '' },
        }
        this.#calls.push(call)
        return { tool_calls: [{ index, ...call }] }
      }
      case 'arguments': {
        const index = this.#calls.length - 1
        const call = this.#calls[index]
        if (call === undefined) throw new Error('arguments come after the call that they belong to')
        this.#calls[index] = { ...call, function: { ...call.function, arguments: call.function.arguments + part.text } }
        return { tool_calls: [{ index, function: { arguments: part.text } }] }
      }
    }
  }
}

/** Nine letters and digits: Mistral's templates refuse any other form, and clients send the id back. */
function callId(unique: string): string {
  const number = createHash('sha256').update(unique).digest().readBigUInt64BE()
  return number.toString(36).padStart(13, '0').slice(-9)
}
