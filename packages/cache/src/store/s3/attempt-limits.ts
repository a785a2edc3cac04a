import type { Timers } from '@quiver/protocol'
import { FaultyAnswer } from './s3-failure.ts'

export interface TimeLimits {
  /** Until the connection stands. */
  readonly connectMs: number
  /** Until an answer begins, and the longest silence of a connection. */
  readonly answerMs: number
  /** An answer must bring at least `bytesPerWindow` in every window of this length, but for its last. */
  readonly windowMs: number
  readonly bytesPerWindow: number
}

/** However slow a window may be. */
const MAX_SEND_MS = 3_600_000

/** 32 KiB per second at the least. */
export const defaultTimeLimits: TimeLimits = { connectMs: 3_000, answerMs: 15_000, windowMs: 5_000, bytesPerWindow: 160 * 1024 }

/**
 * The end of one attempt, by the caller's signal or because the other side is too slow. A store that sends a byte now and
 * then is as dead as one that sends none, and costs more.
 */
export class AttemptLimits {
  readonly #timers: Timers
  readonly #limits: TimeLimits
  readonly #controller = new AbortController()
  readonly #outer: AbortSignal | undefined
  readonly #onAbort = () => this.#controller.abort()
  #cancel: () => void
  #inWindow = 0
  #tooSlow: FaultyAnswer | undefined

  /** @param sendBytes what is sent before an answer can come */
  constructor(
    timers: Timers,
    limits: TimeLimits,
    { signal, sendBytes = 0 }: { signal?: AbortSignal | undefined; sendBytes?: number } = {},
  ) {
    this.#timers = timers
    this.#limits = limits
    this.#outer = signal
    const sendMs = Math.min(MAX_SEND_MS, Math.ceil(sendBytes / limits.bytesPerWindow) * limits.windowMs)
    this.#cancel = timers.after(limits.answerMs + sendMs, () => this.#fail(`no answer within ${limits.answerMs + sendMs} ms`))
    if (signal?.aborted) this.#controller.abort()
    else signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** What ended the attempt, when it was its slowness. */
  get tooSlow(): FaultyAnswer | undefined {
    return this.#tooSlow
  }

  /** The answer begins: from now on its bytes count. */
  answered(): void {
    this.#cancel()
    this.#inWindow = 0
    this.#cancel = this.#timers.after(this.#limits.windowMs, () => {
      if (this.#inWindow < this.#limits.bytesPerWindow) this.#fail(`only ${this.#inWindow} bytes in ${this.#limits.windowMs} ms`)
      else this.answered()
    })
  }

  brought(bytes: number): void {
    this.#inWindow += bytes
  }

  end(): void {
    this.#cancel()
    this.#outer?.removeEventListener('abort', this.#onAbort)
  }

  #fail(reason: string): void {
    this.#tooSlow = new FaultyAnswer(reason)
    this.#controller.abort()
  }
}
