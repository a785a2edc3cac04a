import { createServer, type Server } from 'node:http'
import { getRequestListener, RequestError } from '@hono/node-server'
import { type Logger, limits, ServingError } from '@quiver/protocol'
import type { KeySource } from './auth/guard.ts'
import type { Catalogue } from './catalogue/catalogue.ts'
import { type ClientLimits, defaultClientLimits } from './client-limits.ts'
import type { TimerClock } from './clock.ts'
import { GatewayMetrics } from './metrics/gateway-metrics.ts'
import { Permits } from './permits.ts'
import type { Siblings } from './processes/siblings.ts'
import type { AdminDeps } from './routes/admin/admin-deps.ts'
import { type AppDeps, createApp, type Phase } from './routes/app.ts'
import { answerBrokenRequests } from './routes/broken-request.ts'
import { errorResponse, logFailure } from './routes/error-response.ts'
import { answersDirectly } from './routes/generation-routes.ts'
import type { GenerateTimes } from './routes/start-run.ts'
import type { WorkerSource } from './worker/worker-source.ts'

export interface GatewayConfig {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly version: string
  /** For tests; otherwise as in `limits`. */
  readonly times?: Partial<GenerateTimes>
  readonly readTimes?: ReadTimes
  /** Whether `/metrics` also tells of the whole process; only for the one gateway of a process. */
  readonly processMetrics?: boolean
  /** What is left out is as by default. */
  readonly clientLimits?: Partial<ClientLimits>
}

/** How long a client may take to send its request, in milliseconds. */
export interface ReadTimes {
  readonly headersMs: number
  /** Headers and body together. */
  readonly requestMs: number
  /** How often that is looked at. */
  readonly checkMs: number
}

export interface GatewayDeps {
  readonly workers: WorkerSource
  readonly catalogue: Pick<Catalogue, 'visibleTo'>
  /** Absent: no key is needed. */
  readonly keys?: KeySource
  /** What opens the routes of administration; absent: API keys, or without those this machine. */
  readonly adminKey?: string
  /** Absent: there is no administration. */
  readonly admin?: AdminDeps
  /** The other processes of this gateway; absent: there is this one alone. */
  readonly siblings?: Siblings
  readonly clock: TimerClock
  /** Wall clock, for the times that answers state. */
  readonly now: () => Date
  readonly log: Logger
  /** A whole number, 0 … 2^53−1. */
  readonly drawSeed: () => number
  /** Different each time, at most 36 characters. */
  readonly newId: () => string
}

export interface Gateway {
  /**
   * Binds the public port.
   * @returns the address to reach it at
   * @throws ServingError `conflict` when the port is taken, `invalid_request` when the host or port cannot be bound
   */
  listen(): Promise<{ readonly url: string }>
  /** Requests are served from now on; until then `/health` says no. */
  open(): void
  /** `/health` says no and connections are not kept; requests that come all the same are served. */
  leave(): void
  /** Takes no more requests, lets running ones finish for `graceMs`, then ends them with an error. Resolves when all are gone. */
  close(graceMs: number): Promise<void>
}

const readTimes: ReadTimes = { headersMs: limits.requestHeadersMs, requestMs: limits.requestReadMs, checkMs: 2000 }

/** @example const gateway = createGateway(config, deps); const { url } = await gateway.listen(); gateway.open() */
export function createGateway(config: GatewayConfig, deps: GatewayDeps): Gateway {
  const clientLimits = { ...defaultClientLimits, ...config.clientLimits }
  const permits = new Permits(clientLimits.concurrentRequests)
  const shutdown = new AbortController()
  let phase: Phase = 'starting'
  const appDeps: AppDeps = {
    ...deps,
    permits,
    clientLimits,
    metrics: new GatewayMetrics({ nowMs: deps.clock.nowMs, ofProcess: config.processMetrics ?? false }),
    version: config.version,
    phase: () => phase,
    shutdown: shutdown.signal,
    times: {
      deadlineMs: limits.requestDeadlineMs,
      keepAliveMs: limits.keepAliveMs,
      slowReaderMs: limits.slowReaderMs,
      ...config.times,
    },
  }
  const { headersMs, requestMs, checkMs } = config.readTimes ?? readTimes
  const answer = getRequestListener(createApp(appDeps).fetch, { errorHandler: (thrown) => answerUnroutable(deps, thrown) })
  const answerDirectly = answersDirectly(appDeps)
  const server = createServer(
    {
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: checkMs,
      keepAliveTimeout: limits.clientIdleMs,
    },
    (incoming, outgoing) => {
      // The client's next request goes elsewhere.
      if (phase === 'leaving') outgoing.shouldKeepAlive = false
      if (!answerDirectly(incoming, outgoing)) void answer(incoming, outgoing)
    },
  )
  answerBrokenRequests(server, deps)
  return {
    listen: () => listen(server, config),
    open() {
      phase = 'open'
    },
    leave() {
      phase = 'leaving'
    },
    async close(graceMs) {
      phase = 'draining'
      await closeServer(server, deps.clock, graceMs, () =>
        shutdown.abort(new ServingError('draining', 'the server was stopped before this request was finished')),
      )
    },
  }
}

function listen(server: Server, { host, port }: GatewayConfig): Promise<{ url: string }> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(listenFailure(`${host}:${port}`, cause)))
    server.listen(port, host, () => {
      const address = server.address()
      const bound = typeof address === 'object' && address !== null ? address.port : port
      resolve({ url: `http://${reachableHost(host)}:${bound}` })
    })
  })
}

function listenFailure(where: string, cause: NodeJS.ErrnoException): ServingError {
  const { code = cause.message } = cause
  const why =
    code === 'EADDRINUSE'
      ? 'another program is listening there; choose another with --port or QUIVER_PORT'
      : code === 'EACCES'
        ? 'this user may not; choose a port above 1023 with --port or QUIVER_PORT'
        : `this machine has no such address (${code}); choose another with --host or QUIVER_HOST`
  return new ServingError(
    code === 'EADDRINUSE' ? 'conflict' : 'invalid_request',
    `cannot listen on ${where}: ${why}`,
    {},
    { cause },
  )
}

/** What to write into a URL for a host that was bound: a wildcard is reached on loopback. */
function reachableHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1'
  return host.includes(':') ? `[${host}]` : host
}

/** Time for answers of aborted requests to be written before their connections are cut. */
const ABORT_GRACE_MS = 500
/** How often connections that have become idle are looked for while the server closes. */
const IDLE_CHECK_MS = 50

async function closeServer(server: Server, clock: TimerClock, graceMs: number, abortRunning: () => void): Promise<void> {
  if (!server.listening) return
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  let stopCut = () => {}
  let stopIdle = () => {}
  const closeIdle = () => {
    server.closeIdleConnections()
    stopIdle = clock.after(IDLE_CHECK_MS, closeIdle)
  }
  closeIdle()
  const stopAbort = clock.after(graceMs, () => {
    abortRunning()
    stopCut = clock.after(ABORT_GRACE_MS, () => server.closeAllConnections())
  })
  await closed
  stopAbort()
  stopCut()
  stopIdle()
}

/** What Node has read but no route can be found for: a path or a host that cannot be part of a URL. */
function answerUnroutable(deps: GatewayDeps, thrown: unknown): Response {
  const error =
    thrown instanceof RequestError ? new ServingError('invalid_request', `The request is not valid: ${thrown.message}`) : thrown
  const requestId = deps.newId()
  logFailure(deps.log, error, requestId)
  return errorResponse(error, requestId)
}
