import { ServingError } from '@quiver/protocol'
import type { Timers } from '../timers.ts'

/** Timers that keep the process alive: while a back-off or a wait for another process runs, nothing else may hold it. */
export const holdingTimers: Timers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}

/** Waits. @throws ServingError `client_closed` as soon as `signal` is aborted */
export function sleep(timers: Timers, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(stopped())
      return
    }
    const onAbort = () => {
      cancel()
      reject(stopped())
    }
    const cancel = timers.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** What a start that was called off fails with. */
export function stopped(): ServingError {
  return new ServingError('client_closed', 'stopped before the model was there')
}

/** @throws ServingError `client_closed` when the start was called off */
export function throwIfStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw stopped()
}
