/** What a model's answer is made of where it may call tools. */
export type CallPart =
  | { readonly kind: 'text'; readonly text: string }
  /** Begins the next call. */
  | { readonly kind: 'call'; readonly name: string }
  /** More of the arguments of the call that began last, as JSON text. */
  | { readonly kind: 'arguments'; readonly text: string }

/**
 * Finds calls in a text that comes in pieces. However the text is split, the parts are the same when those of one kind that follow
 * each other are put together.
 */
export interface CallReader {
  push(text: string): readonly CallPart[]
  /** What was held back. Nothing may be pushed afterwards. */
  end(): readonly CallPart[]
  /** Why an answer with calls ended. @param reason what it would be of a text */
  reasonOf(reason: 'length' | 'stop'): 'length' | 'stop' | 'tool_calls'
}

/** Parts in order, those of one kind that follow each other as one. */
export class CallParts {
  #parts: CallPart[] = []

  call(name: string): void {
    this.#parts.push({ kind: 'call', name })
  }

  add(kind: 'text' | 'arguments', text: string): void {
    if (text === '') return
    const last = this.#parts.at(-1)
    if (last?.kind === kind) this.#parts[this.#parts.length - 1] = { kind, text: last.text + text }
    else this.#parts.push({ kind, text })
  }

  take(): readonly CallPart[] {
    const parts = this.#parts
    this.#parts = []
    return parts
  }
}
