/**
 * Which adapters have ended the process that was loading them.
 *
 * Before an adapter is loaded or copied into a slot for the first time, a mark with its digest and our process id is put
 * into a folder; it is taken away when that has ended, well or badly. A mark of a process that is gone means that the process
 * ended in the middle. It need not have been that adapter's doing, so it is only suspected, and tried again by itself: of all
 * suspects one at a time. The one whose attempt ends a process a second time is the one.
 *
 * Marks are not synced to the disk: they are to outlive the process, not the machine.
 */
import type * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { type AdapterDigest, type Logger, parseAdapterDigest } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { isOtherLivingProcess } from './living-process.ts'
import { LoadGate } from './load-gate.ts'

/** `load`: into memory. `place`: into a slot. They are counted apart, so that success in one does not clear the other. */
export type AttemptPhase = 'load' | 'place'
const phases = ['load', 'place'] as const

export type MarkFiles = Pick<typeof fs, 'mkdir' | 'readdir' | 'readFile' | 'rm' | 'writeFile'>

export interface AttemptMarksDeps {
  readonly files: MarkFiles
  readonly log: Logger
}

/** Adapters that have come through once in this process need no mark any more; so many are remembered. */
const PROVEN = 50_000
/** Suspects taken over from earlier processes: more would be a sign of something else. */
const SUSPECTS = 1000

const MARK = /^([0-9a-f]{64})\.(load|place)\.(\d+)$/
const COUNT = /^([0-9a-f]{64})\.(load|place)\.crashes$/

interface Attempt {
  count: number
  readonly marked: Promise<void>
}

export class AttemptMarks {
  readonly #folder: string
  readonly #deps: AttemptMarksDeps
  /** Processes ended, by `<digest>.<phase>`. */
  readonly #crashes = new Map<string, number>()
  readonly #proven = new LRUCache<string, true>({ max: PROVEN })
  readonly #underWay = new Map<string, Attempt>()
  readonly #oneSuspect = new LoadGate(1, () => true)
  #hasFailed = false

  private constructor(folder: string, deps: AttemptMarksDeps) {
    this.#folder = folder
    this.#deps = deps
  }

  /** Counts what earlier processes left. A folder that cannot be read or written is logged; nothing is counted then. */
  static async open(folder: string, deps: AttemptMarksDeps): Promise<AttemptMarks> {
    const marks = new AttemptMarks(folder, deps)
    await marks.#quietly(() => marks.#takeOver())
    return marks
  }

  /** Processes that ended while this adapter was loaded or placed, without a success since. */
  crashesOf(digest: AdapterDigest): number {
    return Math.max(...phases.map((phase) => this.#crashes.get(keyOf(digest, phase)) ?? 0))
  }

  /** Every adapter that is suspected. */
  get suspects(): ReadonlySet<AdapterDigest> {
    return new Set(Array.from(this.#crashes.keys(), (key) => parseAdapterDigest(key.slice(0, key.indexOf('.')))))
  }

  /**
   * Runs `work` when no other suspect is under way, at once for whom nothing is held against. To be entered before any other queue,
   * so that suspects take nobody's place in it. Rejects as `work` does, or with the signal's reason while it waits.
   */
  async inTurn<T>(digest: AdapterDigest, phase: AttemptPhase, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return this.#crashes.has(keyOf(digest, phase)) ? await this.#oneSuspect.run(signal, work) : await work()
  }

  /** Runs `work` under a mark, which an adapter that has come through before does not need. Rejects as `work` does. */
  async guard<T>(digest: AdapterDigest, phase: AttemptPhase, work: () => Promise<T>): Promise<T> {
    const key = keyOf(digest, phase)
    return this.#proven.get(key) ? await work() : await this.#marked(key, work)
  }

  /** Forgets the crashes of an adapter. */
  async forget(digest: AdapterDigest): Promise<void> {
    for (const phase of phases) await this.#clear(keyOf(digest, phase))
  }

  async #marked<T>(key: string, work: () => Promise<T>): Promise<T> {
    const attempt = this.#underWay.get(key) ?? { count: 0, marked: this.#quietly(() => this.#write(this.#markOf(key), '')) }
    attempt.count += 1
    this.#underWay.set(key, attempt)
    try {
      await attempt.marked
      const result = await work()
      this.#proven.set(key, true)
      await this.#clear(key)
      return result
    } finally {
      attempt.count -= 1
      if (attempt.count === 0) {
        this.#underWay.delete(key)
        await this.#quietly(() => this.#deps.files.rm(this.#markOf(key), { force: true }))
      }
    }
  }

  async #clear(key: string): Promise<void> {
    if (!this.#crashes.delete(key)) return
    await this.#quietly(() => this.#deps.files.rm(join(this.#folder, `${key}.crashes`), { force: true }))
  }

  async #takeOver(): Promise<void> {
    const { files, log } = this.#deps
    await files.mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const names = await files.readdir(this.#folder)
    for (const name of names) {
      const [, digest, phase] = COUNT.exec(name) ?? []
      if (digest === undefined || this.#crashes.size >= SUSPECTS) continue
      const text = await files.readFile(join(this.#folder, name), 'utf8')
      // Whatever it says, there was a crash.
      this.#crashes.set(`${digest}.${phase}`, Math.min(1000, Math.max(1, Number.parseInt(text, 10) || 1)))
    }
    for (const name of names) {
      const [, digest = '', phase = '', pid] = MARK.exec(name) ?? []
      if (pid === undefined || isOtherLivingProcess(Number(pid)) || this.#crashes.size >= SUSPECTS) continue
      // Who removes the mark counts it: of two workers that start at once, one does.
      const isOurs = await files.rm(join(this.#folder, name)).then(
        () => true,
        () => false,
      )
      if (!isOurs) continue
      const key = `${digest}.${phase}`
      const crashes = (this.#crashes.get(key) ?? 0) + 1
      this.#crashes.set(key, crashes)
      await this.#write(join(this.#folder, `${key}.crashes`), String(crashes))
      log('warn', 'a worker ended while it was loading an adapter', { digest, phase, crashes })
    }
  }

  #markOf(key: string): string {
    return join(this.#folder, `${key}.${process.pid}`)
  }

  async #write(path: string, text: string): Promise<void> {
    await this.#deps.files.writeFile(path, text, { mode: 0o600 })
  }

  /** Without marks adapters are served all the same; the operator is told once. */
  async #quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (thrown) {
      if (!this.#hasFailed)
        this.#deps.log('warn', 'crashes of the loader cannot be counted', { folder: this.#folder, reason: String(thrown) })
      this.#hasFailed = true
    }
  }
}

function keyOf(digest: AdapterDigest, phase: AttemptPhase): string {
  return `${digest}.${phase}`
}
