/**
 * The thread that compiles grammars and follows texts through them, so that neither ever stops the batching loop: a mask is
 * computed while the engine computes the next step, and a compilation that takes too long is ended with its thread.
 */
import assert from 'node:assert/strict'
import { parentPort, workerData } from 'node:worker_threads'
import { MaskMemory } from './mask-memory.ts'
import type { FromThread, GrammarSource, ThreadStart, ToThread } from './thread-messages.ts'
import { type CompiledGrammar, type GrammarCompiler, type GrammarMatcher, loadXgrammar, type Xgrammar } from './xgrammar.ts'

/** White space that may stand between two parts of a JSON text: a line break and an indentation, not an endless run of it. */
const WHITE_SPACE = 8

interface Follower {
  readonly matcher: GrammarMatcher
  readonly memory: MaskMemory
  turn: number
}

class GrammarThread {
  readonly #xgrammar: Xgrammar
  readonly #compiler: GrammarCompiler
  readonly #grammars = new Map<number, CompiledGrammar>()
  readonly #followers = new Map<number, Follower>()
  readonly #reply: (message: FromThread) => void
  readonly #printed: string[]

  constructor(
    xgrammar: Xgrammar,
    compiler: GrammarCompiler,
    out: { reply(message: FromThread): void; readonly printed: string[] },
  ) {
    this.#xgrammar = xgrammar
    this.#compiler = compiler
    this.#reply = out.reply
    this.#printed = out.printed
  }

  async handle(message: ToThread): Promise<void> {
    switch (message.type) {
      case 'compile':
        return this.#compile(message.grammar, message.source)
      case 'forget':
        this.#grammars.get(message.grammar)?.dispose()
        this.#grammars.delete(message.grammar)
        return
      case 'open':
        return this.#open(message)
      case 'accept':
        return this.#accept(message.matcher, message.token)
      case 'close':
        this.#followers.get(message.matcher)?.matcher.dispose()
        this.#followers.delete(message.matcher)
    }
  }

  async #compile(grammar: number, source: GrammarSource): Promise<void> {
    this.#printed.length = 0
    try {
      const compiled = await this.#compileSource(source)
      const matcher = await this.#xgrammar.GrammarMatcher.createGrammarMatcher(compiled)
      const mask = await matcher.getNextTokenBitmask()
      matcher.dispose()
      if (mask.every((word) => word === 0)) this.#reply({ type: 'refused', grammar, reason: 'no text can fit it' })
      else {
        this.#grammars.set(grammar, compiled)
        this.#reply({ type: 'compiled', grammar })
      }
    } catch {
      // What is thrown says nothing; the reason was printed.
      this.#reply({ type: 'refused', grammar, reason: reasonIn(this.#printed) })
    }
  }

  #compileSource(source: GrammarSource): Promise<CompiledGrammar> {
    return source.kind === 'regex'
      ? this.#compiler.compileStructuralTag({ type: 'structural_tag', format: { type: 'regex', pattern: source.pattern } })
      : this.#compiler.compileJSONSchema(source.schema, true, undefined, undefined, source.closed, WHITE_SPACE)
  }

  async #open({ matcher: id, grammar, shared }: Extract<ToThread, { type: 'open' }>): Promise<void> {
    const compiled = this.#grammars.get(grammar)
    assert(compiled !== undefined, `grammar ${grammar} is not compiled`)
    const matcher = await this.#xgrammar.GrammarMatcher.createGrammarMatcher(compiled)
    const follower = { matcher, memory: new MaskMemory(shared), turn: 0 }
    this.#followers.set(id, follower)
    await publish(follower)
  }

  async #accept(id: number, token: number): Promise<void> {
    const follower = this.#followers.get(id)
    if (follower === undefined) return
    follower.turn++
    if (follower.matcher.isTerminated() || !follower.matcher.acceptToken(token)) follower.memory.publish(follower.turn, 'stuck')
    else await publish(follower)
  }
}

async function publish({ matcher, memory, turn }: Follower): Promise<void> {
  if (matcher.isTerminated()) return memory.publish(turn, 'done')
  const mask = await matcher.getNextTokenBitmask()
  memory.words.set(mask.subarray(0, memory.words.length))
  memory.publish(turn, mask.every((word) => word === 0) ? 'stuck' : 'open')
}

/** `[FATAL] file:line: why`, without where in the library's sources. */
function reasonIn(printed: readonly string[]): string {
  const line = printed.find((text) => text.startsWith('[FATAL]'))
  const why = line === undefined ? undefined : /^\[FATAL\] \S+:\d+: (.*)$/s.exec(line)?.[1]
  return why?.trim().slice(0, 300) ?? 'the grammar compiler does not know how'
}

async function run(start: ThreadStart): Promise<void> {
  assert(parentPort !== null, 'this file is the entry of a thread')
  const port = parentPort
  const printed: string[] = []
  const reply = (message: FromThread) => port.postMessage(message)
  const waiting: ToThread[] = []
  const wake: { up: () => void } = { up: () => {} }
  port.on('message', (message: ToThread) => {
    waiting.push(message)
    wake.up()
  })
  const xgrammar = await loadXgrammar((line) => printed.push(line))
  const { spellings, eosTokenIds } = start
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo([...spellings], 'byte_level', false, spellings.length, [
    ...eosTokenIds,
  ])
  const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false)
  const thread = new GrammarThread(xgrammar, compiler, { reply, printed })
  for (;;) {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await thread.handle(next)
    await new Promise<void>((resolve) => {
      wake.up = resolve
    })
  }
}

await run(workerData as ThreadStart)
