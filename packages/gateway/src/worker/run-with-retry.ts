import { type ErrorCode, type RunEvent, type RunRequest, ServingError } from '@quiver/protocol'
import type { Placed, WorkerSource } from './worker-source.ts'

/** What is told of a run that does not fail. */
export type SuccessEvent = Exclude<RunEvent, { type: 'error' }>

const isError = ({ type }: RunEvent) => type === 'error'
const isToken = ({ type }: RunEvent) => type === 'token'

/** Workers may refuse a run because they are about to stop, and one may be lost with it. */
const ATTEMPTS = 3

/**
 * Runs a request, and once more when its worker is lost before the first token: until then nobody has seen anything of it. A worker
 * that refuses it because it stops has done nothing for it, so another one is asked; the retry budget is for workers that were lost.
 * Events before the first token may come twice; the later one counts. Those that came together are handed on together.
 * @param requestFor the request of each attempt (1, 2, 3), with an id of its own and the time that is left
 * @param onPlaced told of each worker that the run is sent to
 * @throws ServingError the last attempt's failure
 */
export async function* runWithRetry(
  workers: WorkerSource,
  requestFor: (attempt: number) => RunRequest,
  signal: AbortSignal,
  onPlaced: (placed: Placed, attempt: number) => void = () => {},
): AsyncGenerator<readonly SuccessEvent[]> {
  const tried = new Set<string>()
  let wasLost = false
  workers.noteRequest()
  for (let attempt = 1; ; attempt++) {
    const request = requestFor(attempt)
    const placed = await workers.place(request, signal, tried)
    onPlaced(placed, attempt)
    let started = false
    try {
      for await (const events of placed.events(request, signal)) {
        const failed = events.findIndex(isError)
        const good = (failed === -1 ? events : events.slice(0, failed)) as readonly SuccessEvent[]
        started ||= good.some(isToken)
        if (good.length > 0) yield good
        const error = events[failed]
        if (error?.type === 'error') throw runError(error)
      }
      return
    } catch (error) {
      const code = error instanceof ServingError ? error.code : undefined
      if (started || attempt === ATTEMPTS || (code !== 'worker_lost' && code !== 'draining')) throw error
      if (code === 'worker_lost' && (wasLost || !workers.mayRetry())) throw error
      wasLost ||= code === 'worker_lost'
      tried.add(placed.address)
    }
  }
}

/**
 * Some codes mean another thing to whoever sent the request: what a worker calls an invalid request is a value in this one,
 * such as a path that cannot be, and what is too large or in conflict is the adapter, not the request.
 */
const seenByClients: Partial<Record<ErrorCode, ErrorCode>> = {
  invalid_request: 'invalid_parameters',
  too_large: 'adapter_invalid',
  conflict: 'adapter_unavailable',
}

function runError({ code, message, retryAfterS }: Extract<RunEvent, { type: 'error' }>): ServingError {
  return new ServingError(seenByClients[code] ?? code, message, retryAfterS === undefined ? {} : { retryAfterS })
}
