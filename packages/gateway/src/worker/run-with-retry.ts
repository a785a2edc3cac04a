import { type ErrorCode, type RunEvent, type RunRequest, ServingError } from '@quiver/protocol'
import type { WorkerClient } from './worker-client.ts'
import type { WorkerSource } from './worker-source.ts'

/**
 * Runs a request, and once more when its worker is lost before the first token: until then nobody has seen anything of it.
 * Events before the first token may come twice; the later one counts.
 * @param requestFor the request of each attempt (1 or 2), with an id of its own and the time that is left
 * @throws ServingError the last attempt's failure
 */
export async function* runWithRetry(
  workers: WorkerSource,
  requestFor: (attempt: number) => RunRequest,
  signal: AbortSignal,
): AsyncGenerator<Exclude<RunEvent, { type: 'error' }>> {
  let failed: WorkerClient | undefined
  for (let attempt = 1; ; attempt++) {
    const worker = await workers.acquire(signal, failed)
    let started = false
    try {
      for await (const event of worker.run(requestFor(attempt), signal)) {
        if (event.type === 'error') throw runError(event)
        started ||= event.type === 'token'
        yield event
      }
      return
    } catch (error) {
      const isLost = error instanceof ServingError && (error.code === 'worker_lost' || error.code === 'draining')
      if (!isLost || started || attempt === 2) throw error
      failed = worker
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

function runError({ code, message }: { code: ErrorCode; message: string }): ServingError {
  return new ServingError(seenByClients[code] ?? code, message)
}
