import { ServingError } from '@quiver/protocol'
import type { Timers } from '../timers.ts'

/** Timers that keep the process alive: while a back-off or a wait for another process runs, nothing else may hold it. */
export const holdingTimers: Timers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}

/** @throws ServingError `client_closed` when the start was called off */
export function throwIfStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new ServingError('client_closed', 'stopped before the model was there')
}
