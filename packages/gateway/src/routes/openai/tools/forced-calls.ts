import { type CallPart, CallParts, type CallReader } from './call-reader.ts'
import { CallScan } from './call-scan.ts'

/**
 * Reads an answer that a grammar made a call, or a list of calls (call-grammar.ts). The grammar has the name before the arguments, so
 * that these can be passed on as they come.
 */
export class ForcedCalls implements CallReader {
  readonly #isList: boolean
  readonly #parts = new CallParts()
  #scan: CallScan | undefined
  /** Of the call being read: whether it was begun, and how much of its arguments was passed on. */
  #isBegun = false
  #told = 0
  #isComplete = false

  constructor({ isList }: { readonly isList: boolean }) {
    this.#isList = isList
  }

  push(text: string): readonly CallPart[] {
    for (let at = 0; at < text.length && !this.#isComplete; at++) this.#take(text[at] ?? '')
    this.#tell()
    return this.#parts.take()
  }

  end(): readonly CallPart[] {
    return []
  }

  /** A call that was cut off, by a limit or a stop text, is none to make. */
  reasonOf(reason: 'length' | 'stop'): 'length' | 'stop' | 'tool_calls' {
    return this.#isComplete ? 'tool_calls' : reason
  }

  #take(character: string): void {
    if (this.#scan === undefined) {
      if (character === ']') this.#isComplete = true
      if (character !== '{') return
      this.#scan = new CallScan()
      this.#isBegun = false
      this.#told = 0
    }
    if (this.#scan.push(character) !== 'done') return
    this.#tell()
    this.#scan = undefined
    this.#isComplete = !this.#isList
  }

  #tell(): void {
    const { name, arguments: given = '' } = this.#scan ?? {}
    if (name === undefined) return
    if (!this.#isBegun) this.#parts.call(name)
    this.#isBegun = true
    this.#parts.add('arguments', given.slice(this.#told))
    this.#told = given.length
  }
}
