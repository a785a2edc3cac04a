import { ServingError, type Timers } from '@quiver/protocol'

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

/** What a download that was called off fails with. */
export function stopped(): ServingError {
  return new ServingError('client_closed', 'the download was called off')
}
