import assert from 'node:assert/strict'
import { Worker } from 'node:worker_threads'
import { ServingError } from '@quiver/protocol'
import type { Timers } from '../timers.ts'
import { MaskMemory } from './mask-memory.ts'
import type { FromThread, GrammarSource, ThreadStart, ToThread } from './thread-messages.ts'
import { Turns } from './turns.ts'

/** Follows one text through its grammar. */
export interface GrammarMatcher {
  /**
   * The tokens that may come next, a bit each, lowest first; valid until `accept`. Waits for the grammar thread, as a rule not at
   * all: it has computed since the last token was accepted.
   * @throws ServingError when no token may come, or the mask takes too long; either ends this text alone
   */
  mask(): Int32Array
  accept(id: number): void
  /** Frees what the thread holds for it. Later calls do nothing. */
  close(): void
}

export interface ThreadDeps {
  readonly start: ThreadStart
  readonly timers: Timers
  readonly compileMs: number
  readonly maskMs: number
  /** The thread has ended and with it all that it had compiled. */
  onEnd(thread: CompileThread): void
}

/** A refusal, as the client reads it. */
export function refusal(reason: string): ServingError {
  return new ServingError('invalid_parameters', `the grammar cannot be used: ${reason}`)
}

/**
 * One grammar thread, seen from the batching loop's side. Texts share it; a compilation has it alone, so that no text ever waits
 * behind one.
 */
export class CompileThread {
  readonly turns = new Turns()
  readonly #deps: ThreadDeps
  readonly #worker: Worker
  readonly #settle = new Map<number, (message: FromThread | ServingError) => void>()
  #ended: ServingError | undefined
  #nextId = 1

  constructor(deps: ThreadDeps) {
    this.#deps = deps
    // Nothing of what the library prints reaches this process's own output.
    this.#worker = new Worker(new URL('./grammar-thread.ts', import.meta.url), {
      workerData: deps.start,
      execArgv: [],
      stdout: true,
      stderr: true,
    })
    this.#worker.unref()
    this.#worker.on('message', (message: FromThread) => this.#settle.get(message.grammar)?.(message))
    this.#worker.on('error', (cause) => this.end(new ServingError('internal', 'the grammar thread failed', {}, { cause })))
  }

  /** Why nothing more can be asked of it; undefined while it lives. */
  get ended(): ServingError | undefined {
    return this.#ended
  }

  /**
   * Only with the turn alone. The thread is spent when this fails.
   * @returns the grammar's number in this thread
   * @throws ServingError `invalid_parameters` naming why it does not compile
   */
  async compile(source: GrammarSource): Promise<number> {
    if (this.#ended !== undefined) throw this.#ended
    const grammar = this.#nextId++
    const { compileMs, timers } = this.#deps
    const answer = await new Promise<FromThread | ServingError>((resolve) => {
      const callOff = timers.after(compileMs, () =>
        this.end(refusal(`compiling it takes longer than ${compileMs} ms: use smaller bounds of length and repetition`)),
      )
      this.#settle.set(grammar, (message) => {
        callOff()
        resolve(message)
      })
      this.#send({ type: 'compile', grammar, source })
    })
    this.#settle.delete(grammar)
    if (answer instanceof ServingError) throw answer
    if (answer.type === 'compiled') return grammar
    const error = refusal(answer.reason)
    this.end(error)
    throw error
  }

  forget(grammar: number): void {
    this.#send({ type: 'forget', grammar })
  }

  /**
   * @param giveBack the shared turn, which the matcher has until it is closed
   * @param onSlow told once when the thread had to be ended over this text
   */
  open(grammar: number, giveBack: () => void, onSlow: (refused: ServingError) => void): GrammarMatcher {
    const matcher = this.#nextId++
    const memory = MaskMemory.forVocabulary(this.#deps.start.spellings.length)
    this.#send({ type: 'open', matcher, grammar, shared: memory.shared })
    let turn = 0
    let isOpen = true
    return {
      mask: () => {
        assert(isOpen, 'a closed matcher is not asked')
        this.#await(memory, turn, onSlow)
        if (memory.state === 'open') return memory.words
        throw new ServingError('invalid_parameters', 'the grammar allows no token of this model after the text so far: loosen it')
      },
      accept: (token) => {
        turn++
        this.#send({ type: 'accept', matcher, token })
      },
      close: () => {
        if (!isOpen) return
        isOpen = false
        this.#send({ type: 'close', matcher })
        giveBack()
      },
    }
  }

  /** Ends the thread at once, whatever it computes; who waits for it gets the error. */
  end(error: ServingError): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    void this.#worker.terminate()
    for (const settle of [...this.#settle.values()]) settle(error)
    this.#deps.onEnd(this)
  }

  #await(memory: MaskMemory, turn: number, onSlow: (refused: ServingError) => void): void {
    const { maskMs } = this.#deps
    if (memory.waitFor(turn, this.#ended === undefined ? maskMs : 0)) return
    const ended = this.#ended
    if (ended !== undefined) {
      if (ended.code !== 'invalid_parameters') throw ended
      // What was wrong with another text's grammar is no fault of this one.
      throw new ServingError('overloaded', "the thread of this text's grammar had to be ended: send the request again")
    }
    const slow = refusal(`it takes longer than ${maskMs} ms to follow one token: make it simpler`)
    this.end(slow)
    onSlow(slow)
    throw slow
  }

  #send(message: ToThread): void {
    if (this.#ended === undefined) this.#worker.postMessage(message)
  }
}
