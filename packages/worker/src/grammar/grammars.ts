import { type Grammar, ServingError } from '@quiver/protocol'
import type { Timers } from '../timers.ts'
import { byteCharacters } from '../tokenizer/byte-alphabet.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { CompileThread, type GrammarMatcher, refusal } from './compile-thread.ts'
import { sourceOf } from './grammar-source.ts'
import type { GrammarSource, ThreadStart } from './thread-messages.ts'

export interface GrammarsDeps {
  readonly tokenizer: Pick<Tokenizer, 'tokenBytes' | 'isSpecial'>
  /** Tokens that the model knows. */
  readonly vocabSize: number
  /** Tokens that end a text. */
  readonly eosTokenIds: ReadonlySet<number>
  readonly timers: Timers
  readonly bounds?: Partial<GrammarBounds>
}

export interface GrammarBounds {
  /** Threads at most; each has a WASM memory with the whole vocabulary, about 80 MB for 49,152 tokens. */
  readonly threads: number
  /** Compiled grammars kept. */
  readonly compiled: number
  /** Grammars known not to compile. */
  readonly refused: number
  /** How long a thread may start and compile. */
  readonly compileMs: number
  /** How long a step may wait for one mask. */
  readonly maskMs: number
}

const defaultBounds: GrammarBounds = { threads: 4, compiled: 64, refused: 256, compileMs: 10_000, maskMs: 2_000 }
/** How often a text looks for a thread when the one it waited for ends before its turn. */
const ATTEMPTS = 8

interface Compiled {
  readonly thread: CompileThread
  readonly grammar: number
}

/** Compiles grammars for one model, each once while it is used, and opens matchers for texts. */
export class Grammars {
  readonly #deps: GrammarsDeps
  readonly #bounds: GrammarBounds
  readonly #threads = new Set<CompileThread>()
  /** By content, least recently used first. */
  readonly #compiled = new Map<string, Compiled>()
  readonly #compiling = new Map<string, Promise<Compiled>>()
  readonly #refused = new Map<string, ServingError>()
  /** How many wait for each grammar. */
  readonly #waiting = new Map<string, number>()
  #start: ThreadStart | undefined
  #isClosed = false

  constructor(deps: GrammarsDeps) {
    this.#deps = deps
    this.#bounds = { ...defaultBounds, ...deps.bounds }
  }

  /** Threads that live now. */
  get threadCount(): number {
    return this.#threads.size
  }

  /**
   * @param signal the client's leaving: what nobody waits for any more is not compiled
   * @returns a matcher at the beginning of a text; whoever gets it closes it
   * @throws ServingError `invalid_parameters` naming why this grammar cannot be used, always within `compileMs` of its turn
   */
  async open(grammar: Grammar, signal?: AbortSignal): Promise<GrammarMatcher> {
    if (this.#deps.eosTokenIds.size === 0) throw refusal('this model names no token that ends a text')
    const source = sourceOf(grammar)
    const key = JSON.stringify(source)
    const leave = this.#wait(key, signal)
    try {
      return await this.#openWhenCompiled(key, source)
    } finally {
      leave()
    }
  }

  async #openWhenCompiled(key: string, source: GrammarSource): Promise<GrammarMatcher> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const found = await this.#find(key, source)
      const giveBack = await found.thread.turns.share()
      if (found.thread.ended === undefined && this.#compiled.get(key) === found) {
        return found.thread.open(found.grammar, giveBack, (error) => this.#remember(key, error))
      }
      giveBack()
    }
    throw new ServingError('overloaded', 'the grammar was pushed out again and again before it could be used: try again later')
  }

  close(): void {
    this.#isClosed = true
    for (const thread of [...this.#threads]) thread.end(stopping())
  }

  async #find(key: string, source: GrammarSource): Promise<Compiled> {
    const refused = this.#refused.get(key)
    if (refused !== undefined) throw refused
    const known = this.#compiled.get(key)
    if (known !== undefined) {
      this.#compiled.delete(key)
      this.#compiled.set(key, known)
      return known
    }
    const underWay = this.#compiling.get(key)
    if (underWay !== undefined) return underWay
    const compiling = this.#compile(key, source).finally(() => {
      if (this.#compiling.get(key) === compiling) this.#compiling.delete(key)
    })
    this.#compiling.set(key, compiling)
    return compiling
  }

  /** @returns ends the waiting, which the client's leaving does too */
  #wait(key: string, signal: AbortSignal | undefined): () => void {
    this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1)
    let isWaiting = true
    const leave = () => {
      if (!isWaiting) return
      isWaiting = false
      signal?.removeEventListener('abort', leave)
      const others = (this.#waiting.get(key) ?? 1) - 1
      if (others > 0) this.#waiting.set(key, others)
      else this.#waiting.delete(key)
    }
    signal?.addEventListener('abort', leave, { once: true })
    if (signal?.aborted === true) leave()
    return leave
  }

  /** Else clients that ask and leave could keep the threads busy for hours. */
  #requireWaiting(key: string): void {
    if (this.#waiting.has(key)) return
    // Whoever comes now begins anew, and does not join what has just been given up.
    this.#compiling.delete(key)
    throw new ServingError('client_closed', 'nobody waits for the grammar any more')
  }

  async #compile(key: string, source: GrammarSource): Promise<Compiled> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const thread = this.#pickThread()
      const giveBack = await thread.turns.alone()
      try {
        // It may have ended over another grammar while this one waited.
        if (thread.ended !== undefined) continue
        this.#requireWaiting(key)
        const compiled = { thread, grammar: await thread.compile(source) }
        this.#keep(key, compiled)
        return compiled
      } catch (thrown) {
        if (thrown instanceof ServingError && thrown.code === 'invalid_parameters') this.#remember(key, thrown)
        throw thrown
      } finally {
        giveBack()
      }
    }
    throw new ServingError('overloaded', 'no thread was left to compile the grammar: try again later')
  }

  /** One that nobody uses, else a new one, else the one with the fewest texts. */
  #pickThread(): CompileThread {
    if (this.#isClosed) throw stopping()
    const byLoad = [...this.#threads].toSorted((a, b) => a.turns.load - b.turns.load)
    const [idlest] = byLoad
    if (idlest !== undefined && (idlest.turns.load === 0 || byLoad.length >= this.#bounds.threads)) return idlest
    const { compileMs, maskMs } = this.#bounds
    this.#start ??= threadStart(this.#deps)
    const thread = new CompileThread({
      start: this.#start,
      timers: this.#deps.timers,
      compileMs,
      maskMs,
      onEnd: (ended) => this.#lose(ended),
    })
    this.#threads.add(thread)
    return thread
  }

  #keep(key: string, compiled: Compiled): void {
    this.#compiled.set(key, compiled)
    for (const [oldest, { thread, grammar }] of this.#compiled) {
      if (this.#compiled.size <= this.#bounds.compiled) return
      this.#compiled.delete(oldest)
      thread.forget(grammar)
    }
  }

  #remember(key: string, error: ServingError): void {
    this.#refused.set(key, error)
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= this.#bounds.refused) return
      this.#refused.delete(oldest)
    }
  }

  #lose(ended: CompileThread): void {
    this.#threads.delete(ended)
    for (const [key, { thread }] of this.#compiled) if (thread === ended) this.#compiled.delete(key)
  }
}

function stopping(): ServingError {
  return new ServingError('draining', 'the worker is stopping')
}

/** Special tokens have no text in an answer, so no grammar may be followed with them; but the one that ends it. */
function threadStart({ tokenizer, vocabSize, eosTokenIds }: GrammarsDeps): ThreadStart {
  const spell = (id: number) => Array.from(tokenizer.tokenBytes(id), (byte) => byteCharacters[byte]).join('')
  const spellings = Array.from({ length: vocabSize }, (_, id) => (tokenizer.isSpecial(id) ? '' : spell(id)))
  return { spellings, eosTokenIds: [...eosTokenIds].filter((id) => id < vocabSize) }
}
