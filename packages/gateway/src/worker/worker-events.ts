import { limits, parseWorkerEvent, ServingError, type WorkerEvent } from '@quiver/protocol'
import { type Dispatcher, request } from 'undici'
import { parseLine, readLines } from './ndjson.ts'
import type { WorkerEndpoint } from './worker-client.ts'

/**
 * Listens to a worker: its events, and undefined for each heartbeat. Ends when the worker ends it; leaving the loop or aborting
 * closes the connection.
 * @throws ServingError `worker_lost` when it does not answer as a worker does; otherwise what the connection fails with
 */
export async function* listenToWorker(
  { url, token }: WorkerEndpoint,
  options: { readonly dispatcher: Dispatcher; readonly signal: AbortSignal },
): AsyncGenerator<WorkerEvent | undefined> {
  const { statusCode, body } = await request(new URL('/v1/events', url), {
    ...options,
    headers: { authorization: `Bearer ${token}` },
    headersTimeout: 10_000,
    // Who listens counts the heartbeats that are missing.
    bodyTimeout: 0,
  })
  if (statusCode !== 200) {
    await body.dump()
    throw new ServingError('worker_lost', 'the worker does not tell what it holds', { workerStatus: statusCode })
  }
  for await (const line of readLines(body, limits.eventsBufferBytes)) {
    yield line === '' ? undefined : parseLine(line, parseWorkerEvent)
  }
}
