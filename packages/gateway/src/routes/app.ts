/** The public route table. */
import type { HttpBindings } from '@hono/node-server'
import { ServingError } from '@quiver/protocol'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { errorResponse, logFailure } from './error-response.ts'
import { readRequestId } from './exchange.ts'
import { answerGenerate, type GenerateMode } from './generate.ts'
import { describeServer } from './server-info.ts'
import type { GenerateDeps } from './start-run.ts'

export type Phase = 'starting' | 'open' | 'draining'

export interface AppDeps extends GenerateDeps {
  readonly version: string
  readonly phase: () => Phase
}

/** How long a worker may take to say that it is well. */
const HEALTH_PATIENCE_MS = 2000

const generateRoutes: Readonly<Record<string, GenerateMode>> = {
  '/': 'compat',
  '/invocations': 'compat',
  '/generate': 'whole',
  '/generate_stream': 'stream',
}
const healthRoutes = ['/', '/health', '/ping'] as const

export function createApp(deps: AppDeps): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>()
  app.use(cors({ origin: '*', allowMethods: ['GET', 'POST'], allowHeaders: ['content-type'] }))
  for (const [path, mode] of Object.entries(generateRoutes)) {
    app.post(path, ({ env: { incoming, outgoing } }) => {
      if (deps.phase() !== 'draining') return answerGenerate(deps, mode, { incoming, outgoing })
      // Only a connection from before can bring it; the next one goes elsewhere.
      const requestId = readRequestId(incoming.headers['x-request-id']) ?? deps.newId()
      return errorResponse(new ServingError('draining', 'The server is being stopped'), requestId, { connection: 'close' })
    })
  }
  for (const path of healthRoutes) app.get(path, () => answerHealth(deps))
  app.get('/info', ({ env }) => {
    const { info } = deps.workers
    const requestId = readRequestId(env.incoming.headers['x-request-id']) ?? deps.newId()
    if (info === undefined) return errorResponse(new ServingError('not_ready', 'The model is still being loaded'), requestId)
    return Response.json(describeServer(info, deps.version), { headers: { 'x-request-id': requestId } })
  })
  app.notFound((c) => {
    const allowed = allowedMethods(c.req.path)
    const [error, headers] =
      allowed.length === 0
        ? [new ServingError('not_found', 'There is no such route'), {}]
        : [new ServingError('method_not_allowed', `This route answers ${allowed.join(' and ')}`), { allow: allowed.join(', ') }]
    return errorResponse(error, readRequestId(c.env.incoming.headers['x-request-id']) ?? deps.newId(), headers)
  })
  app.onError((thrown, c) => {
    const requestId = readRequestId(c.env.incoming.headers['x-request-id']) ?? deps.newId()
    logFailure(deps.log, thrown, requestId)
    return errorResponse(thrown, requestId)
  })
  return app
}

/** Says yes only when a generation would be served now. */
async function answerHealth(deps: AppDeps): Promise<Response> {
  const controller = new AbortController()
  const stop = deps.clock.after(HEALTH_PATIENCE_MS, () => controller.abort())
  try {
    if (deps.phase() === 'open' && (await deps.workers.isHealthy(controller.signal))) return new Response(null, { status: 200 })
  } finally {
    stop()
  }
  return Response.json({ error: 'unhealthy', error_type: 'healthcheck' }, { status: 503 })
}

function allowedMethods(path: string): readonly string[] {
  const gets = path === '/info' || healthRoutes.some((route) => route === path)
  return [...(gets ? ['GET', 'HEAD'] : []), ...(path in generateRoutes ? ['POST'] : [])]
}
