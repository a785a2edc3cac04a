import type { Timers } from '../../packages/worker/src/timers.ts'

/**
 * Timers for code that retries: pauses below `longMs` are over at once, longer ones (time limits) never end unless a test says so.
 */
export class SkippingTimers implements Timers {
  /** Every delay asked for, in order. */
  readonly delays: number[] = []
  readonly #longMs: number
  #waiting: (() => void)[] = []

  constructor(longMs = 10_000) {
    this.#longMs = longMs
  }

  after(delayMs: number, callback: () => void): () => void {
    this.delays.push(delayMs)
    if (delayMs < this.#longMs) {
      const immediate = setImmediate(callback)
      return () => clearImmediate(immediate)
    }
    this.#waiting.push(callback)
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== callback)
    }
  }

  /** Time limits that stand. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Lets all time limits pass. */
  expire(): void {
    const due = this.#waiting
    this.#waiting = []
    for (const callback of due) callback()
  }
}
