/**
 * Finds drops: by looking at the whole folder from time to time, and at single folders when a bucket says that something came.
 * A drop is complete when its files are there and were the same a while ago, or at once with `_READY`. What is found is added to
 * the queue at every look until it is gone, so that nothing has to be remembered.
 */
import type { ObjectStore } from '@quiver/cache/store'
import { type Logger, toServingError } from '@quiver/protocol'
import { forEachAtMost } from '../at-most.ts'
import type { TimerClock } from '../clock.ts'
import { CLEARING, type Drop, dropId, isComplete, listDrops, nameOfKey, READY, REJECTED, readDrop } from './drop-folder.ts'
import type { DropWork } from './drop-job.ts'
import { readClearing, readRejected } from './drop-result.ts'
import type { JobQueue } from './job-queue.ts'

/** Files have to stay as they are for this long after an event, unless looks come more often. Uploads of several files come in bursts. */
const SETTLE_MS = 400
/** Folders with something to publish that one look goes on with; the others when these are gone. */
const DROPS_AT_MOST = 10_000
/** Folders of which events may wait for a second look. */
const NOTICED_AT_MOST = 10_000
const AT_ONCE = 8

export interface DropWatchDeps {
  readonly store: ObjectStore
  readonly queue: Pick<JobQueue, 'add'>
  readonly clock: TimerClock
  readonly random: () => number
  readonly log: Logger
  /** Between two looks at the whole folder; 0: only one at the start, and a second one right after it. */
  readonly intervalMs: number
}

interface Sight {
  readonly id: string
  readonly atMs: number
}

export class DropWatch {
  readonly #deps: DropWatchDeps
  readonly #settleMs: number
  /** Since when each drop is as it is. */
  readonly #seen = new Map<string, Sight>()
  /** Refusals that were read, by the etags of their notes. */
  readonly #rejected = new Map<string, string>()
  readonly #settling = new Map<string, () => void>()
  #stopTimer = () => {}
  #isClosed = false
  #isFailing = false

  constructor(deps: DropWatchDeps) {
    this.#deps = deps
    this.#settleMs = deps.intervalMs > 0 ? Math.min(SETTLE_MS, deps.intervalMs) : SETTLE_MS
  }

  /** Looks now, soon again, and then at each interval. */
  start(): void {
    const { clock, intervalMs, random } = this.#deps
    let looks = 0
    const again = () => {
      if (this.#isClosed) return
      looks++
      if (intervalMs === 0 && looks > 1) return
      // Several gateways shall not all look at the same moment.
      const pauseMs = looks === 1 ? Math.max(this.#settleMs, Math.min(intervalMs, 1000)) : intervalMs * (0.9 + random() / 5)
      this.#stopTimer = clock.after(pauseMs, () => void this.look().finally(again))
    }
    void this.look().finally(again)
  }

  close(): void {
    this.#isClosed = true
    this.#stopTimer()
    for (const stop of this.#settling.values()) stop()
    this.#settling.clear()
  }

  /**
   * Something came to these keys, or may have: their folders are looked at now, and again when they have been quiet for a while.
   * @returns the names of the folders
   */
  notice(keys: readonly string[]): readonly string[] {
    const names = [...new Set(keys.flatMap((key) => nameOfKey(key) ?? []))]
    for (const name of names) {
      if (this.#settling.size >= NOTICED_AT_MOST && !this.#settling.has(name)) continue
      this.#settling.get(name)?.()
      this.#settling.set(name, () => {})
      void this.#settle(name)
    }
    return names
  }

  /** Looks at one folder until it stays as it is. */
  async #settle(name: string): Promise<void> {
    if (this.#isClosed) return
    let isSettled = true
    await this.#try(async () => {
      const lookedAtMs = this.#deps.clock.nowMs()
      isSettled = await this.#consider(await readDrop(this.#deps.store, name), lookedAtMs)
    })
    // Another event may have begun anew meanwhile, or it was closed.
    this.#settling.get(name)?.()
    this.#settling.delete(name)
    if (isSettled || this.#isClosed) return
    this.#settling.set(
      name,
      this.#deps.clock.after(this.#settleMs, () => void this.#settle(name)),
    )
  }

  /** One look at the whole folder. Never rejects; what fails is found again at the next. */
  async look(): Promise<void> {
    await this.#try(async () => {
      const lookedAtMs = this.#deps.clock.nowMs()
      const drops = await listDrops(this.#deps.store)
      for (const name of this.#seen.keys()) if (!drops.has(name)) this.#seen.delete(name)
      for (const name of this.#rejected.keys()) if (drops.get(name)?.files.has(REJECTED) !== true) this.#rejected.delete(name)
      const found = [...drops.values()].filter((drop) => isComplete(drop) || drop.files.has(CLEARING))
      if (found.length > DROPS_AT_MOST) {
        this.#deps.log('warn', `${found.length} drops wait, more than are looked at: remove rejected ones`, {
          most: DROPS_AT_MOST,
        })
      }
      await forEachAtMost(AT_ONCE, found.slice(0, DROPS_AT_MOST), async (drop) => {
        await this.#consider(drop, lookedAtMs)
      })
    })
  }

  /** @returns false where it has to be seen again to be sure that it stays as it is */
  async #consider(drop: Drop, lookedAtMs: number): Promise<boolean> {
    const { store, queue } = this.#deps
    const { name, files } = drop
    if (files.has(CLEARING)) {
      const { note } = await readClearing(store, name)
      if (note !== undefined) {
        await queue.add({ id: note.job, name })
        return true
      }
    }
    if (!isComplete(drop)) {
      this.#seen.delete(name)
      return true
    }
    const id = dropId(drop)
    if (!files.has(READY)) {
      if (!this.#isStable({ name, id }, lookedAtMs)) return false
      if ((await this.#rejectedJob(drop)) === id) return true
    }
    await queue.add({ id, name })
    return true
  }

  #isStable({ name, id }: DropWork, lookedAtMs: number): boolean {
    const before = this.#seen.get(name)
    if (before?.id === id) return lookedAtMs - before.atMs >= this.#settleMs
    this.#seen.set(name, { id, atMs: this.#deps.clock.nowMs() })
    return false
  }

  /** The job that the drop's refusal is of. */
  async #rejectedJob(drop: Drop): Promise<string | undefined> {
    const entry = drop.files.get(REJECTED)
    if (entry === undefined) return undefined
    const known = this.#rejected.get(drop.name)
    if (known?.startsWith(`${entry.etag} `) === true) return known.slice(entry.etag.length + 1)
    const { note, etag } = await readRejected(this.#deps.store, drop.name)
    if (note !== undefined && etag === entry.etag) this.#rejected.set(drop.name, `${etag} ${note.job}`)
    return note?.job
  }

  async #try(look: () => Promise<void>): Promise<void> {
    const { log } = this.#deps
    try {
      await look()
      if (this.#isFailing) log('info', 'the drop folder is looked at again')
      this.#isFailing = false
    } catch (thrown) {
      const { message, context } = toServingError(thrown)
      if (!this.#isFailing) log('warn', `the drop folder cannot be looked at now: ${message}`, context)
      this.#isFailing = true
    }
  }
}
