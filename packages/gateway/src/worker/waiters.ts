import type { TimerClock } from '../clock.ts'

/** Those who wait for something to be different from how it was when they looked. */
export class Waiters {
  readonly #clock: TimerClock
  #changes = 0
  #next = Promise.withResolvers<void>()

  constructor(clock: TimerClock) {
    this.#clock = clock
  }

  /** Something is different now. */
  wake(): void {
    this.#changes += 1
    const { resolve } = this.#next
    this.#next = Promise.withResolvers()
    resolve()
  }

  /** How often something has changed; to be asked before looking. */
  get changes(): number {
    return this.#changes
  }

  /** Resolves when something has changed since `changes` was that, when the signal is aborted, and at the latest after `delayMs`. */
  async since(changes: number, delayMs: number, signal?: AbortSignal): Promise<void> {
    if (changes !== this.#changes || signal?.aborted) return
    const over = Promise.withResolvers<void>()
    const stop = this.#clock.after(delayMs, over.resolve)
    const onAbort = () => over.resolve()
    signal?.addEventListener('abort', onAbort, { once: true })
    await Promise.race([this.#next.promise, over.promise])
    signal?.removeEventListener('abort', onAbort)
    stop()
  }
}
