/**
 * How many requests of a store are under way at once. A worker that dies leaves hundreds of adapters to be read by those that go on, and
 * a store that is asked for all of them together answers that it wants fewer (`SlowDown`): every such answer costs a request of the store's
 * and a pause of ours, and gets nobody further.
 *
 * So all requests share one window. It begins small and grows with every answer until the store asks for patience the first time; then
 * it is halved, once for all requests that were under way together, and grows by one place a second. Who is refused waits for a
 * place again like everybody else, so that the store sees at most as many as it has last been content with, and one more now and then.
 */
import type { Clock } from '@quiver/protocol'

/** Enough for one adapter after the other at once; a store that allows fewer refuses no more than these. */
const FIRST_PLACES = 8
const MOST_PLACES = 32
/** After the store has once asked for patience. */
const GROWTH_MS = 1_000

/** How a request ended: the store served it, or failed for a reason of its own; or it asked for fewer requests. */
export type WindowOutcome = 'served' | 'failed' | 'refused'

/** Gives the place back; only the first call counts. */
export type LeaveWindow = (outcome: WindowOutcome) => void

export class RequestWindow {
  readonly #clock: Clock
  readonly #waiting = new Set<() => void>()
  #places = FIRST_PLACES
  #underWay = 0
  /** Times that it was halved. */
  #cuts = 0
  #changedAtMs: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#changedAtMs = clock.nowMs()
  }

  get places(): number {
    return this.#places
  }

  /** Waits for a place, oldest first. @returns undefined when `signal` is aborted before */
  async enter(signal: AbortSignal | undefined): Promise<LeaveWindow | undefined> {
    if (signal?.aborted) return undefined
    if (this.#underWay < this.#places && this.#waiting.size === 0) this.#underWay += 1
    else if (!(await this.#turn(signal))) return undefined
    const cutsBefore = this.#cuts
    let hasLeft = false
    return (outcome) => {
      if (hasLeft) return
      hasLeft = true
      if (outcome === 'served') this.#grow()
      // Those that were under way together are one refusal: the window they were in is not there any more.
      if (outcome === 'refused' && cutsBefore === this.#cuts) this.#cut()
      this.#underWay -= 1
      this.#wake()
    }
  }

  #grow(): void {
    const nowMs = this.#clock.nowMs()
    const isFull = this.#underWay >= this.#places
    if (!isFull || this.#places >= MOST_PLACES) return
    if (this.#cuts > 0 && nowMs - this.#changedAtMs < GROWTH_MS) return
    this.#places += 1
    this.#changedAtMs = nowMs
  }

  #cut(): void {
    this.#cuts += 1
    this.#places = Math.max(1, Math.floor(Math.min(this.#places, this.#underWay) / 2))
    this.#changedAtMs = this.#clock.nowMs()
  }

  #turn(signal: AbortSignal | undefined): Promise<boolean> {
    return new Promise((resolve) => {
      const start = () => {
        signal?.removeEventListener('abort', leave)
        resolve(true)
      }
      const leave = () => {
        this.#waiting.delete(start)
        resolve(false)
      }
      this.#waiting.add(start)
      signal?.addEventListener('abort', leave, { once: true })
    })
  }

  #wake(): void {
    for (const start of this.#waiting) {
      if (this.#underWay >= this.#places) return
      this.#waiting.delete(start)
      this.#underWay += 1
      start()
    }
  }
}
