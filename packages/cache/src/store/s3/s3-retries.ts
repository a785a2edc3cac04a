/**
 * When a request is made again. Pauses grow and are drawn at random, so that many clients do not come back together; no
 * request is made more often, or begun later, than the policy says; and all requests of a store draw from one purse, which
 * every success fills a little: when most requests fail, only few are repeated, and a store that is down is not stormed.
 */
import type { Clock, Timers } from '@quiver/protocol'

export interface RetryPolicy {
  /** Attempts in a row that gained nothing. */
  readonly attempts: number
  /** No attempt begins later than this after the first. */
  readonly budgetMs: number
  /** The first pause is drawn from 0 to this; the range doubles with every further one up to `longestPauseMs`. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
}

export const defaultRetryPolicy: RetryPolicy = { attempts: 5, budgetMs: 60_000, firstPauseMs: 100, longestPauseMs: 5_000 }

export interface RetryDeps {
  readonly clock: Clock
  readonly timers: Timers
  /** From 0 (included) to 1 (not included). */
  readonly random: () => number
}

const PURSE = 50
/** What a success puts back; a repetition costs 1. */
const REFILL = 0.2

/** What a store's requests may still spend on repetitions. */
export class RetryPurse {
  #tokens = PURSE

  spend(): boolean {
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }

  refill(): void {
    this.#tokens = Math.min(PURSE, this.#tokens + REFILL)
  }
}

/** One operation's way through its attempts. */
export class Retries {
  readonly #policy: RetryPolicy
  readonly #deps: RetryDeps
  readonly #purse: RetryPurse
  readonly #begunMs: number
  #fruitless = 0
  #attempts = 1

  constructor(policy: RetryPolicy, deps: RetryDeps, purse: RetryPurse) {
    this.#policy = policy
    this.#deps = deps
    this.#purse = purse
    this.#begunMs = deps.clock.nowMs()
  }

  /** Attempts so far, this one included. */
  get attempts(): number {
    return this.#attempts
  }

  /** An attempt that gets further than those before starts the count anew; the time goes on. */
  gained(): void {
    this.#fruitless = 0
  }

  succeeded(): void {
    this.#purse.refill()
  }

  /** Waits before another attempt. @returns false, at once, when there shall be none, or when `signal` is aborted meanwhile */
  async again(signal: AbortSignal | undefined): Promise<boolean> {
    const { attempts, budgetMs, firstPauseMs, longestPauseMs } = this.#policy
    const pauseMs = this.#deps.random() * Math.min(longestPauseMs, firstPauseMs * 2 ** this.#fruitless)
    this.#fruitless += 1
    const spentMs = this.#deps.clock.nowMs() - this.#begunMs
    if (this.#fruitless >= attempts || spentMs + pauseMs > budgetMs || !this.#purse.spend()) return false
    this.#attempts += 1
    return await pause(this.#deps.timers, pauseMs, signal)
  }
}

function pause(timers: Timers, pauseMs: number, signal: AbortSignal | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (goesOn: boolean) => {
      cancel()
      signal?.removeEventListener('abort', onAbort)
      resolve(goesOn)
    }
    const onAbort = () => end(false)
    const cancel = timers.after(pauseMs, () => end(true))
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}
