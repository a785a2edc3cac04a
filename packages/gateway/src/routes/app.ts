/** The public route table. */
import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { ServingError, toServingError } from '@quiver/protocol'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { type Caller, type CallerVariables, guard, type KeySource } from '../auth/guard.ts'
import { routeAccess } from '../auth/route-rights.ts'
import type { Catalogue } from '../catalogue/catalogue.ts'
import type { Siblings } from '../processes/siblings.ts'
import type { AdminDeps } from './admin/admin-deps.ts'
import { adminErrorResponse } from './admin/admin-envelope.ts'
import { addAdminRoutes } from './admin/admin-routes.ts'
import { addEngineRoutes } from './admin/engine-routes.ts'
import { answerEmbed } from './embed.ts'
import { errorResponse, logFailure } from './error-response.ts'
import { readRequestId } from './exchange.ts'
import { answerGeneration, depsFor, draining, generationPaths } from './generation-routes.ts'
import { jsonBody } from './json-answer.ts'
import { answerMetrics, answerSiblings } from './metrics.ts'
import type { OpenaiDeps } from './openai/complete.ts'
import { answerEmbeddings } from './openai/embeddings.ts'
import { describeModel, listModels } from './openai/models.ts'
import { openaiErrorResponse } from './openai/respond.ts'
import { docsApp } from './openapi/routes.ts'
import { describeServer } from './server-info.ts'
import { answerStartup, answerTokenize } from './tokenize.ts'

/** `leaving`: unhealthy to whoever asks, but what comes is served. */
export type Phase = 'starting' | 'open' | 'leaving' | 'draining'

export interface AppDeps extends Omit<OpenaiDeps, 'tenant' | 'share' | 'catalogue'> {
  readonly phase: () => Phase
  readonly catalogue: Pick<Catalogue, 'visibleTo'>
  /** Absent: no key is needed. */
  readonly keys?: KeySource
  /** What opens the routes of administration; absent: API keys, or without those this machine. */
  readonly adminKey?: string
  /** Absent: there is no administration. */
  readonly admin?: AdminDeps
  /** Absent: this process is the whole gateway. */
  readonly siblings?: Siblings
}

interface AppEnv {
  readonly Bindings: HttpBindings
  readonly Variables: CallerVariables
}

/** How long a worker may take to say that it is well. */
const HEALTH_PATIENCE_MS = 2000

const classifyRoutes = ['/classify', '/classify_batch'] as const
const healthRoutes = ['/', '/health', '/ping'] as const

export function createApp(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  if (deps.siblings !== undefined) answerSiblings(deps, deps.siblings)
  app.use(async (c, next) => {
    // One id for whatever answers and for whatever is logged: those who come later read it where a client would have put it.
    const { headers } = c.env.incoming
    headers['x-request-id'] = requestIdOf(deps, c.env.incoming)
    try {
      await next()
    } catch (thrown) {
      // Hono hands nothing but an Error to onError; whatever else is thrown would pass by it.
      throw toServingError(thrown)
    }
    // Answers without a body, such as those of health and of preflights, have none of their own.
    if (!c.res.headers.has('x-request-id')) c.res.headers.set('x-request-id', requestIdOf(deps, c.env.incoming))
  })
  app.use(
    cors({
      origin: '*',
      allowMethods: ['GET', 'POST'],
      allowHeaders: ['content-type', 'authorization', 'x-api-key', 'x-priority'],
    }),
  )
  app.use(
    guard({ ...deps, refuse: (c, error, headers) => respond(c.req.path)(error, requestIdOf(deps, c.env.incoming), headers) }),
  )
  for (const path of generationPaths) {
    app.post(path, async ({ env: { incoming, outgoing }, var: { caller } }) => {
      await answerGeneration(deps, path, caller, { incoming, outgoing })
      return new Response(null, { headers: { 'x-hono-already-sent': 'true' } })
    })
  }
  addTextRoutes(app, deps)
  addModelRoutes(app, deps)
  addAdminRoutes(app, deps)
  addEngineRoutes(app, deps)
  addStatusRoutes(app, deps)
  app.route(
    '/',
    docsApp(deps.version, (incoming) => requestIdOf(deps, incoming)),
  )
  app.notFound((c) => {
    const allowed = allowedMethods(app, c.req.path)
    const [error, headers] =
      allowed.length === 0
        ? [new ServingError('not_found', 'There is no such route'), {}]
        : [new ServingError('method_not_allowed', `This route answers ${allowed.join(' and ')}`), { allow: allowed.join(', ') }]
    return respond(c.req.path)(error, requestIdOf(deps, c.env.incoming), headers)
  })
  app.onError((thrown, c) => {
    const requestId = requestIdOf(deps, c.env.incoming)
    logFailure(deps.log, thrown, requestId)
    return respond(c.req.path)(thrown, requestId)
  })
  return app
}

/** What is done with texts but for generating them. */
function addTextRoutes(app: Hono<AppEnv>, deps: AppDeps): void {
  app.post('/v1/embeddings', ({ env: { incoming, outgoing }, var: { caller } }) => {
    if (deps.phase() !== 'draining') return answerEmbeddings(depsFor(deps, caller, incoming), { incoming, outgoing })
    return openaiErrorResponse(draining(), requestIdOf(deps, incoming), { connection: 'close' })
  })
  for (const path of classifyRoutes) {
    // LoRAX's answer for what its model cannot do. No body is needed to say so.
    app.post(path, ({ env: { incoming } }) =>
      errorResponse(
        new ServingError('adapter_unavailable', 'Model does not support classification'),
        requestIdOf(deps, incoming),
      ),
    )
  }
  app.post('/embed', ({ env: { incoming, outgoing }, var: { caller } }) => {
    if (deps.phase() !== 'draining') return answerEmbed(depsFor(deps, caller, incoming), { incoming, outgoing })
    return errorResponse(draining(), requestIdOf(deps, incoming), { connection: 'close' })
  })
  app.post('/tokenize', ({ env: { incoming, outgoing }, var: { caller } }) =>
    answerTokenize(depsFor(deps, caller, incoming), { incoming, outgoing }),
  )
  app.get('/startup', ({ env: { incoming, outgoing }, var: { caller } }) =>
    answerStartup(depsFor(deps, caller, incoming), { incoming, outgoing }),
  )
}

/** How the server is, and what it is. */
function addStatusRoutes(app: Hono<AppEnv>, deps: AppDeps): void {
  for (const path of healthRoutes) app.get(path, () => answerHealth(deps))
  app.get('/metrics', ({ env: { incoming } }) => answerMetrics(deps, incoming.headers.accept ?? '', requestIdOf(deps, incoming)))
  app.get('/info', ({ env }) => {
    const { info } = deps.workers
    const requestId = requestIdOf(deps, env.incoming)
    if (info === undefined) return errorResponse(new ServingError('not_ready', 'The model is still being loaded'), requestId)
    return Response.json(describeServer(info, deps.version, deps.clientLimits, deps.permits, deps.workers.places), {
      headers: { 'x-request-id': requestId },
    })
  })
}

/** `GET /v1/models` and one of them, whose id may have slashes. */
function addModelRoutes(app: Hono<AppEnv>, deps: AppDeps): void {
  const startedAt = deps.now()
  const source = (caller: Caller) => {
    const { info } = deps.workers
    if (info === undefined) throw new ServingError('not_ready', 'The model is still being loaded')
    return { info, bases: deps.workers.bases, catalogue: deps.catalogue.visibleTo(caller.tenant), startedAt }
  }
  const headers = (incoming: IncomingMessage) => ({ 'x-request-id': requestIdOf(deps, incoming) })
  app.get('/v1/models', async ({ env, var: { caller } }) => {
    const list = await jsonBody(listModels(source(caller)))
    return new Response(list, { headers: { 'content-type': 'application/json', ...headers(env.incoming) } })
  })
  app.get('/v1/models/:id{.+}', ({ env, req, var: { caller } }) =>
    Response.json(describeModel(req.param('id'), source(caller)), { headers: headers(env.incoming) }),
  )
}

function requestIdOf(deps: AppDeps, { headers }: IncomingMessage): string {
  return readRequestId(headers['x-request-id']) ?? deps.newId()
}

function respond(path: string): typeof errorResponse {
  if (path === '/admin' || path.startsWith('/admin/')) return adminErrorResponse
  return path.startsWith('/v1/') ? openaiErrorResponse : errorResponse
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

/** What the routes of a path are asked by. Of administration nothing is said, because who may not use it is not told that it is there. */
function allowedMethods(app: Hono<AppEnv>, path: string): readonly string[] {
  const isTold = (method: string, route: string) => {
    const access = routeAccess.get(`${method} ${route}`)
    return access !== undefined && access !== 'publisher' && access !== 'operator'
  }
  const isRoute = (method: string) => app.router.match(method, path)[0].some(([[, route]]) => isTold(method, route.path))
  return ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
    .filter(isRoute)
    .flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
}
