import { JsonScan } from './json-scan.ts'

/** Words for a call's arguments: Hermes and Qwen have the first, Llama 3 the second. */
const ARGUMENTS: ReadonlySet<string> = new Set(['arguments', 'parameters'])

/** Reads one call as models write it, `{"name": …, "arguments": {…}}`, character by character. */
export class CallScan {
  readonly #json = new JsonScan()
  #key = ''
  /** What of the outermost object is being read now. */
  #part: 'none' | 'key' | 'value' = 'none'
  #raw = ''
  #name: string | undefined
  #arguments: string | undefined

  /** Known when it was read to its end, and a string. */
  get name(): string | undefined {
    return this.#name
  }

  /** JSON text as it was written, so far as it was read; undefined while it has not begun. */
  get arguments(): string | undefined {
    return this.#arguments
  }

  /** @returns `done` with the object's last character, `bad` where it can be no JSON any more */
  push(character: string): 'open' | 'done' | 'bad' {
    const json = this.#json
    const { depth, expectsKey, expectsValue } = json
    const state = json.push(character)
    if (state === 'bad') return 'bad'
    const isSpace = /^[ \t\n\r]$/.test(character)
    if (this.#part === 'none' && depth === 1 && !isSpace) {
      if (expectsKey && character === '"') this.#part = 'key'
      else if (expectsValue) this.#part = 'value'
      this.#raw = ''
    }
    if (this.#part !== 'none') this.#read(character)
    return state
  }

  #read(character: string): void {
    const { depth, isBetween } = this.#json
    const hasEnded = isBetween && depth <= 1
    // A number or a word ends only with what comes after it, which is no part of it.
    const isAfter = hasEnded && /^[,}\s]$/.test(character) && /^[^{["]/.test(this.#raw)
    if (!isAfter) this.#raw += character
    if (this.#part === 'value' && ARGUMENTS.has(this.#key)) this.#arguments = this.#raw
    if (!hasEnded) return
    if (this.#part === 'key') this.#key = String(JSON.parse(this.#raw))
    else if (this.#key === 'name') this.#name = textOf(this.#raw)
    this.#part = 'none'
  }
}

function textOf(raw: string): string | undefined {
  const value: unknown = JSON.parse(raw)
  return typeof value === 'string' ? value : undefined
}
