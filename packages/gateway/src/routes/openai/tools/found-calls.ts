import { type CallPart, CallParts, type CallReader } from './call-reader.ts'
import { CallScan } from './call-scan.ts'

const OPEN = '<tool_call>'
const CLOSE = '</tool_call>'

export interface FoundCallsOptions {
  /** Tools that may be called; the name of any other makes no call. */
  readonly names: ReadonlySet<string>
  /** false: calls after the first are left out. */
  readonly parallel: boolean
}

interface Reading {
  readonly form: 'tagged' | 'bare'
  readonly scan: CallScan
  /** `closing`: the object is a call, and its closing tag has come as far as `tail`. */
  state: 'before' | 'object' | 'closing'
  tail: string
}

/**
 * Finds the calls that a model makes of its own accord, in the two forms that are in use:
 *
 * - `<tool_call>{"name": …, "arguments": {…}}</tool_call>` of Hermes and Qwen, anywhere, any number of times;
 * - `{"name": …, "parameters": {…}}` of Llama 3, where the answer begins with it; more may follow, with `;` between them.
 *
 * Only an offered tool's name with arguments that are a JSON object makes a call; anything else is text, to the last character. White
 * space beside calls belongs to neither.
 */
export class FoundCalls implements CallReader {
  readonly #options: FoundCallsOptions
  readonly #parts = new CallParts()
  /** Text that is not looked at yet. */
  #queue = ''
  /** White space that is text if text follows. */
  #space = ''
  /** What is text unless it becomes a call: the beginning of a tag, or a call as far as it was read. */
  #held = ''
  #reading: Reading | undefined
  /** Whether a bare call may begin here. */
  #mayBeBare = true
  #calls = 0
  #followsCall = false

  constructor(options: FoundCallsOptions) {
    this.#options = options
  }

  push(text: string): readonly CallPart[] {
    this.#queue += text
    this.#work()
    return this.#parts.take()
  }

  end(): readonly CallPart[] {
    while (this.#held !== '') {
      if (this.#reading?.state === 'closing') this.#finish(this.#reading)
      else this.#giveUp()
      this.#work()
    }
    if (!this.#followsCall) this.#parts.add('text', this.#space)
    return this.#parts.take()
  }

  /** Every call that was found is whole; the text after them may have been cut. */
  reasonOf(reason: 'length' | 'stop'): 'length' | 'tool_calls' {
    return reason === 'stop' ? 'tool_calls' : reason
  }

  #work(): void {
    for (let at = 0; at < this.#queue.length; at++) {
      const character = this.#queue[at] ?? ''
      const isRight = this.#reading === undefined ? this.#outside(character) : this.#within(this.#reading, character)
      if (isRight) continue
      // What was held is text; what comes after its beginning is looked at again.
      this.#queue = this.#queue.slice(at)
      this.#giveUp()
      at = -1
    }
    this.#queue = ''
  }

  /** @returns false where what is held turned out to be no tag, and this character has not been taken */
  #outside(character: string): boolean {
    if (OPEN.startsWith(this.#held + character)) {
      this.#held += character
      if (this.#held === OPEN) this.#reading = { form: 'tagged', scan: new CallScan(), state: 'before', tail: '' }
      return true
    }
    if (this.#held !== '') return false
    if (/^\s$/.test(character) || (character === ';' && this.#mayBeBare && this.#calls > 0)) this.#space += character
    else if (character === '{' && this.#mayBeBare) {
      this.#held = character
      const scan = new CallScan()
      scan.push(character)
      this.#reading = { form: 'bare', scan, state: 'object', tail: '' }
    } else this.#text(character)
    return true
  }

  /** @returns false where this can be no call any more, and this character has not been taken */
  #within(reading: Reading, character: string): boolean {
    const isSpace = /^\s$/.test(character)
    if (reading.state === 'closing') {
      if (!(reading.tail === '' && isSpace)) {
        if (!CLOSE.startsWith(reading.tail + character)) return false
        reading.tail += character
      }
      this.#held += character
      if (reading.tail === CLOSE) this.#finish(reading)
      return true
    }
    if (reading.state === 'before' && isSpace) {
      this.#held += character
      return true
    }
    reading.state = 'object'
    const state = reading.scan.push(character)
    if (state === 'bad' || (state === 'done' && !this.#isCall(reading.scan))) return false
    this.#held += character
    if (state === 'open') return true
    if (reading.form === 'bare') this.#finish(reading)
    else reading.state = 'closing'
    return true
  }

  #isCall({ name, arguments: given }: CallScan): boolean {
    return name !== undefined && this.#options.names.has(name) && given !== undefined && objectText(given) !== undefined
  }

  #finish({ form, scan }: Reading): void {
    this.#held = ''
    this.#space = ''
    this.#reading = undefined
    this.#followsCall = true
    this.#mayBeBare = form === 'bare'
    this.#calls++
    if (this.#calls > 1 && !this.#options.parallel) return
    this.#parts.call(scan.name ?? '')
    this.#parts.add('arguments', objectText(scan.arguments ?? '') ?? '')
  }

  /** The beginning of what is held is text: a whole tag, or one character. */
  #giveUp(): void {
    const held = this.#held
    const length = this.#reading?.form === 'tagged' ? OPEN.length : 1
    this.#reading = undefined
    this.#held = ''
    this.#queue = held.slice(length) + this.#queue
    this.#text(held.slice(0, length))
  }

  #text(text: string): void {
    this.#parts.add('text', this.#space + text)
    this.#space = ''
    this.#mayBeBare = false
    this.#followsCall = false
  }
}

/** An object's JSON text, also where a model wrote it as a string; undefined for anything else. */
function objectText(raw: string): string | undefined {
  if (raw.startsWith('{')) return raw
  if (!raw.startsWith('"')) return undefined
  try {
    const text = String(JSON.parse(raw)).trim()
    return text.startsWith('{') && JSON.parse(text) !== undefined ? text : undefined
  } catch {
    // Not JSON within the string.
    return undefined
  }
}
