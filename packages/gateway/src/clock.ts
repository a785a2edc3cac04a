import type { Clock } from '@quiver/protocol'

/** Monotonic time and timers; injected so that tests need not wait. */
export interface TimerClock extends Clock {
  /** Calls `action` once after `delayMs`, unless the returned function is called before. */
  after(delayMs: number, action: () => void): () => void
}

/** @example const clock = systemClock(); const stop = clock.after(500, () => retry()) */
export function systemClock(): TimerClock {
  return {
    nowMs: () => performance.now(),
    after(delayMs, action) {
      const timer = setTimeout(action, delayMs)
      return () => clearTimeout(timer)
    },
  }
}

/** The promise's value, or undefined when it takes longer than `delayMs`. @throws what the promise rejects with in that time */
export function within<T>(clock: TimerClock, delayMs: number, promise: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>()
  const stop = clock.after(delayMs, () => late.resolve(undefined))
  return Promise.race([promise, late.promise]).finally(stop)
}
