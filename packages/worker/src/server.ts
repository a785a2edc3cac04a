import { createHash, timingSafeEqual } from 'node:crypto'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer, type HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import {
  httpStatus,
  type Logger,
  limits,
  type RunRequest,
  runRequestSchema,
  ServingError,
  type TextToken,
  type TokenizeRequest,
  tokenizeRequestSchema,
  toServingError,
  type WorkerInfo,
} from '@quiver/protocol'
import { Hono, type MiddlewareHandler } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { type AdapterActions, adapterMethods, addAdapterRoutes } from './adapter-routes.ts'
import type { BatchState } from './batch-state.ts'
import type { EventFeed } from './event-feed.ts'
import { streamEvents } from './event-route.ts'
import { EventStream } from './event-stream.ts'
import { parseBody, readBody } from './request-body.ts'
import type { ServiceHealth } from './run-service.ts'
import type { EventSink } from './step/sequence.ts'
import type { Timers } from './timers.ts'

/** How long the last events of runs may take when the server closes. */
const CLOSE_FLUSH_MS = 1_000

/** What the server serves. There from the start, so that a worker that is still loading its model can say so. */
export interface WorkerService extends AdapterActions {
  health(): ServiceHealth
  /** @throws ServingError `not_ready` while starting */
  info(): WorkerInfo
  state(): BatchState
  /** @throws ServingError `not_ready` while starting */
  events(): EventFeed
  /** Tells everybody to send nothing more. */
  leave(): void
  start(request: RunRequest, sink: EventSink, signal: AbortSignal): void
  /** @throws ServingError `invalid_parameters`; `not_ready` while starting */
  tokenize(request: TokenizeRequest): Promise<readonly TextToken[]>
}

export interface WorkerServerOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** When set, every route but `/health` wants `Authorization: Bearer <token>`. */
  readonly token?: string | undefined
  readonly service: WorkerService
  readonly timers: Timers
  readonly log: Logger
  /** Bytes of a run's events that may wait for its reader. */
  readonly runBufferBytes?: number
}

export interface WorkerServer {
  readonly url: string
  /** Stops listening and ends every connection. */
  close(): Promise<void>
}

/**
 * The worker's HTTP side, for gateways only.
 *
 * | route | answer |
 * | --- | --- |
 * | `POST /v1/run` | 200 and a stream of RunEvents, one JSON object a line, as soon as the body is a RunRequest: whatever goes wrong after that, before or after `accepted`, is the stream's one `error` event |
 * | `POST /v1/tokenize` | `{ tokens }` of a text, each with its place |
 * | `GET /v1/info` | WorkerInfo |
 * | `GET /v1/state` | what the batch is doing: BatchState |
 * | `GET /v1/events` | WorkerEvents, one JSON object a line, for as long as the gateway listens: a snapshot, then what changes |
 * | `POST /v1/drain` | tells every gateway to send nothing more; what comes all the same is served. Answers the health |
 * | `GET /v1/adapters` | AdapterPresences; with `?digest=` of this adapter alone |
 * | `POST /v1/adapters/<order>` | `prefetch`, `pin`, `unpin` or `lift` the adapter of an AdapterOrder; AdapterPresences of this adapter when it is done |
 * | `GET /health` | 200 when a request would be served, else 503 with the reason; needs no token |
 *
 * Any other status comes with `{ error, code }`: a body that is no RunRequest 400, too long 413, encoded 415, no or a wrong
 * token 401, unknown route 404, wrong method 405, still starting 503.
 */
export async function startServer(options: WorkerServerOptions): Promise<WorkerServer> {
  const server = createAdaptorServer({
    fetch: createApp(options).fetch,
    overrideGlobalObjects: false,
    serverOptions: {
      headersTimeout: limits.requestHeadersMs,
      requestTimeout: limits.requestReadMs,
      connectionsCheckingInterval: 5_000,
      keepAliveTimeout: limits.connectionIdleMs,
      // A gateway's machine that vanishes without a word is noticed by probes.
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
    },
  }) as Server
  await listen(server, options)
  return { url: urlOf(server.address() as AddressInfo), close: () => closeServer(server, options.timers) }
}

/** @throws ServingError `conflict` when the port is taken, `invalid_request` when it cannot be had at all */
function listen(server: Server, { host, port }: WorkerServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === 'EADDRINUSE'
      const reason = isTaken ? 'another process has it' : String(cause.code ?? cause.message)
      const message = `the worker cannot listen on ${host}:${port}: ${reason}; choose another host or port`
      reject(new ServingError(isTaken ? 'conflict' : 'invalid_request', message, {}, { cause }))
    })
    server.listen(port, host, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

type Env = { Bindings: HttpBindings }

const methods = {
  '/health': 'GET',
  '/v1/info': 'GET',
  '/v1/state': 'GET',
  '/v1/run': 'POST',
  '/v1/tokenize': 'POST',
  '/v1/events': 'GET',
  '/v1/drain': 'POST',
  ...adapterMethods,
}

/** The routes alone, without a socket. */
export function createApp(options: WorkerServerOptions): Hono<Env> {
  const { service, log } = options
  const app = new Hono<Env>()
  app.get('/health', (context) => {
    const health = service.health()
    return context.json(health, health.status === 'serving' ? 200 : 503)
  })
  app.use(bearer(options.token))
  app.get('/v1/info', (context) => context.json(service.info()))
  app.get('/v1/state', (context) => context.json(service.state()))
  app.post('/v1/run', async (context) => {
    const { incoming, outgoing } = context.env
    const request = parseBody(runRequestSchema, 'a run request', await readBody(incoming, limits.runRequestBytes))
    const health = service.health()
    if (health.status === 'starting') throw new ServingError('not_ready', health.reason)
    const stream = new EventStream(outgoing, {
      timers: options.timers,
      bufferBytes: options.runBufferBytes ?? limits.runBufferBytes,
      flushMs: limits.runFlushMs,
    })
    service.start(request, stream, stream.left)
    return RESPONSE_ALREADY_SENT
  })
  app.post('/v1/tokenize', async (context) => {
    const body = await readBody(context.env.incoming, limits.runRequestBytes)
    return context.json({ tokens: await service.tokenize(parseBody(tokenizeRequestSchema, 'a tokenize request', body)) })
  })
  app.get('/v1/events', (context) => {
    streamEvents(service.events(), context.env.outgoing)
    return RESPONSE_ALREADY_SENT
  })
  app.post('/v1/drain', (context) => {
    service.leave()
    return context.json(service.health())
  })
  addAdapterRoutes(app, service)
  for (const [path, allow] of Object.entries(methods)) {
    app.all(path, (context) => {
      context.header('allow', allow)
      throw new ServingError('method_not_allowed', `${path} is called with ${allow}, not ${context.req.method}`)
    })
  }
  app.notFound((context) => {
    throw new ServingError('not_found', `this worker has no route ${context.req.path}`)
  })
  app.onError((thrown, context) => {
    const error = toServingError(thrown)
    if (error.code === 'internal') {
      log('error', 'a request failed inside the worker', { path: context.req.path, cause: String(thrown.stack ?? thrown) })
    }
    // What is left of a refused body is not waited for.
    if (error.code === 'too_large') context.header('connection', 'close')
    return context.json({ error: error.message, code: error.code }, httpStatus[error.code] as ContentfulStatusCode)
  })
  return app
}

function bearer(token: string | undefined): MiddlewareHandler {
  return async (context, next) => {
    if (token !== undefined && !sameSecret(context.req.header('authorization') ?? '', `Bearer ${token}`)) {
      throw new ServingError('unauthenticated', 'this worker wants the header Authorization: Bearer with its token')
    }
    await next()
  }
}

/** Compares digests of equal length, so that the time taken says nothing of where two secrets differ. */
function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(expected))
}

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}

/** Lets what has been written go out, then ends the connections that still have a reader behind. */
function closeServer(server: Server, timers: Timers): Promise<void> {
  return new Promise((resolve) => {
    const callOff = timers.after(CLOSE_FLUSH_MS, () => server.closeAllConnections())
    server.close(() => {
      callOff()
      resolve()
    })
  })
}
