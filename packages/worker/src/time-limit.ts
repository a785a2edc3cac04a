import { type Clock, type RunRequest, ServingError } from '@quiver/protocol'
import type { Timers } from './timers.ts'

/** Until when something is waited for, and what is answered then. */
export interface TimeLimit {
  readonly atMs: number
  readonly error: ServingError
}

/** The end of a request's time. @param what was being done then, as in `its grammar was compiled` */
export function deadlineOf({ deadlineMs }: Pick<RunRequest, 'deadlineMs'>, arrivedAtMs: number, what: string): TimeLimit {
  const message = `the request's deadline passed after ${deadlineMs} ms, while ${what}`
  return { atMs: arrivedAtMs + deadlineMs, error: new ServingError('deadline_exceeded', message) }
}

/** Waits for `work` no longer than the client stays and there is time. @param signal the client's leaving */
export function inTime<T>(
  work: Promise<T>,
  signal: AbortSignal,
  { atMs, error }: TimeLimit,
  { clock, timers }: { readonly clock: Clock; readonly timers: Timers },
): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(new ServingError('client_closed', 'the client closed the request'))
    const callOff = timers.after(Math.max(0, atMs - clock.nowMs()), () => reject(error))
    signal.addEventListener('abort', leave, { once: true })
    if (signal.aborted) leave()
    work.then(resolve, reject).finally(() => {
      callOff()
      signal.removeEventListener('abort', leave)
    })
  })
}
