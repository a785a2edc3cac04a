import {
  type AdapterOrder,
  type AdapterOrderKind,
  type AdapterPresences,
  limits,
  type RunEvent,
  type RunRequest,
  ServingError,
  type TextToken,
  type TokenizeRequest,
  type WorkerInfo,
  type WorkerState,
  workerInfoSchema,
  workerStateSchema,
} from '@quiver/protocol'
import { Agent, type Dispatcher, errors, request } from 'undici'
import { parseRunEvents } from './ndjson.ts'
import { orderAt, presencesAt } from './worker-adapters.ts'
import { tokenizeAt } from './worker-tokenize.ts'

export interface WorkerEndpoint {
  /** Base address, without a path. */
  readonly url: string
  /** Shared secret of this gateway and this worker. */
  readonly token: string
}

/** One worker as the gateway uses it. */
export interface WorkerClient {
  readonly info: WorkerInfo
  /**
   * Streams a run: any number of events, as many at a time as have come together, the last one `done` or `error`. Leaving the loop or
   * aborting ends the run in the worker.
   * @throws ServingError `worker_lost` when the worker goes away or breaks the protocol; what the signal's reason says when aborted
   */
  run(runRequest: RunRequest, signal: AbortSignal): AsyncGenerator<readonly RunEvent[]>
  /** @throws ServingError what the worker refuses it with, `worker_lost`, or what the signal's reason says when aborted */
  tokenize(body: TokenizeRequest, signal: AbortSignal): Promise<readonly TextToken[]>
  /**
   * The adapters that it holds; of one alone, where a digest is given, none when it is nowhere.
   * @throws ServingError `worker_lost` when it does not say so, or what the signal's reason says when aborted
   */
  adapters(signal: AbortSignal, digest?: string): Promise<AdapterPresences>
  /**
   * Tells it to prefetch, pin, unpin or lift an adapter; resolves when that is done. Aborting takes a prefetch or pin back.
   * @throws ServingError why the adapter cannot be had; `conflict` when no more may be pinned; `overloaded` when too many orders are under
   * way; `worker_lost`, or what the signal's reason says when aborted
   */
  order(kind: AdapterOrderKind, order: AdapterOrder, signal: AbortSignal): Promise<AdapterPresences>
  /** Tells it to get nothing more, from any gateway. @throws ServingError `worker_lost`, or what the signal's reason says when aborted */
  drain(signal: AbortSignal): Promise<void>
  /** What it is doing. @throws ServingError `worker_lost` when it does not say so, or what the signal's reason says when aborted */
  state(signal: AbortSignal): Promise<WorkerState>
  /** Whether the worker would serve a request now. Never throws. */
  isHealthy(signal: AbortSignal): Promise<boolean>
}

/** The connections to workers; to be destroyed at the end. How many there are follows from the requests that are let in. */
export function workerAgent(): Agent {
  return new Agent()
}

/**
 * Asks a worker what it is.
 * @throws ServingError `worker_lost` when it does not answer as a worker does
 * @example const worker = await connectWorker({ url: 'http://127.0.0.1:8090', token }, new Agent())
 */
export async function connectWorker(
  endpoint: WorkerEndpoint,
  dispatcher: Dispatcher,
  signal?: AbortSignal,
): Promise<WorkerClient> {
  const headers = { authorization: `Bearer ${endpoint.token}` }
  const info = await readInfo(endpoint, { dispatcher, headers, ...(signal === undefined ? {} : { signal }) })
  const { origin } = new URL(endpoint.url)
  const runHeaders = { ...headers, 'content-type': 'application/json' }
  return {
    info,
    run: (runRequest, signal) => runAt(origin, runRequest, { dispatcher, headers: runHeaders, signal }),
    async tokenize(body, signal) {
      try {
        return await tokenizeAt(endpoint.url, body, { headers, dispatcher, signal })
      } catch (cause) {
        throw asRunError(cause, signal)
      }
    },
    async adapters(signal, digest) {
      try {
        return await presencesAt(endpoint.url, digest, { headers, dispatcher, signal })
      } catch (cause) {
        throw asRunError(cause, signal)
      }
    },
    async order(kind, order, signal) {
      try {
        return await orderAt(endpoint.url, kind, order, { headers, dispatcher, signal })
      } catch (cause) {
        throw asRunError(cause, signal)
      }
    },
    async drain(signal) {
      try {
        const response = await request(new URL('/v1/drain', endpoint.url), { method: 'POST', headers, dispatcher, signal })
        await response.body.dump()
        if (response.statusCode !== 200) throw new ServingError('worker_lost', 'the worker does not take the order to drain')
      } catch (cause) {
        throw asRunError(cause, signal)
      }
    },
    async state(signal) {
      try {
        const response = await request(new URL('/v1/state', endpoint.url), { headers, dispatcher, signal })
        return workerStateSchema.parse(await response.body.json())
      } catch (cause) {
        if (signal.aborted) throw signal.reason
        throw new ServingError('worker_lost', 'the worker does not say what it is doing', {}, { cause })
      }
    },
    async isHealthy(signal) {
      try {
        const response = await request(new URL('/health', endpoint.url), { headers, dispatcher, signal })
        await response.body.dump()
        return response.statusCode === 200
      } catch {
        // Whatever keeps it from answering, it would not serve a request.
        return false
      }
    },
  }
}

async function* runAt(
  origin: string,
  runRequest: RunRequest,
  connection: { readonly dispatcher: Dispatcher; readonly headers: Record<string, string>; readonly signal: AbortSignal },
): AsyncGenerator<readonly RunEvent[]> {
  const { dispatcher, headers, signal } = connection
  let ended = false
  try {
    const response = await dispatcher.request({
      origin,
      path: '/v1/run',
      method: 'POST',
      headers,
      body: JSON.stringify(runRequest),
      signal,
      // How long a run may be silent is bounded by the request's own deadline.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    if (response.statusCode !== 200) {
      await response.body.dump()
      throw new ServingError('internal', 'internal error', { workerStatus: response.statusCode })
    }
    // Read to its end, a response leaves its connection usable; leaving this loop early closes it, which ends the run.
    for await (const events of parseRunEvents(response.body, limits.runEventBytes)) {
      if (ended) continue
      const end = events.findIndex(({ type }) => type === 'done' || type === 'error')
      ended = end !== -1
      yield ended ? events.slice(0, end + 1) : events
    }
  } catch (cause) {
    if (!ended) throw asRunError(cause, signal)
  }
  if (!ended) throw new ServingError('worker_lost', 'the worker ended the run without a result')
}

async function readInfo(
  endpoint: WorkerEndpoint,
  connection: { readonly dispatcher: Dispatcher; readonly headers: Record<string, string>; readonly signal?: AbortSignal },
): Promise<WorkerInfo> {
  try {
    const response = await request(new URL('/v1/info', endpoint.url), {
      ...connection,
      headersTimeout: 10_000,
      bodyTimeout: 10_000,
    })
    return workerInfoSchema.parse(await response.body.json())
  } catch (cause) {
    throw new ServingError('worker_lost', 'the worker does not say what it is', { worker: endpoint.url }, { cause })
  }
}

function asRunError(thrown: unknown, signal: AbortSignal): unknown {
  if (thrown instanceof ServingError) return thrown
  if (signal.aborted) return signal.reason
  if (thrown instanceof errors.UndiciError || isSystemError(thrown)) {
    return new ServingError('worker_lost', 'the worker was lost while it served this request', {}, { cause: thrown })
  }
  return thrown
}

/** What sockets fail with: ECONNREFUSED, ECONNRESET, EPIPE and their kin; where a name has several addresses, with those of each. */
function isSystemError(thrown: unknown): boolean {
  if (thrown instanceof AggregateError) return thrown.errors.length > 0 && thrown.errors.every(isSystemError)
  return thrown instanceof Error && 'code' in thrown && 'syscall' in thrown
}
