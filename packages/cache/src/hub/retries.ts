import { ServingError, type Timers } from '@quiver/protocol'
import { sleep } from './sleep.ts'

export interface RetryDeps {
  readonly timers: Timers
  readonly signal: AbortSignal
}

/** Failures in a row, without anything gained, after which a request or a file is given up. */
export const MAX_FRUITLESS_ATTEMPTS = 5
const FIRST_BACKOFF_MS = 500
const LONGEST_BACKOFF_MS = 8_000

/** Worth another attempt: the network or the hub failed, not the request. */
export function isTransient(error: unknown): boolean {
  return error instanceof ServingError && error.code === 'source_unavailable'
}

/** @param attempt 0 for the first pause */
export function backoffMs(attempt: number): number {
  return Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** attempt)
}

/** Repeats what fails for a reason that may pass. */
export async function withRetries<T>(deps: RetryDeps, work: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!isTransient(error) || attempt + 1 >= MAX_FRUITLESS_ATTEMPTS) throw error
      await sleep(deps.timers, backoffMs(attempt), deps.signal)
    }
  }
}
