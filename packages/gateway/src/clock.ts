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
