/** The table of the admin routes, and what all of them have in common. */
import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { limits } from '@quiver/protocol'
import type { Hono } from 'hono'
import type { Caller, CallerVariables } from '../../auth/guard.ts'
import { logFailure } from '../error-response.ts'
import { type NodeExchange, openExchange } from '../exchange.ts'
import { readJsonBody } from '../json-body.ts'
import type { GenerateDeps } from '../start-run.ts'
import { listAdapters, restoreAdapter, retireAdapter, showAdapter } from './adapter-routes.ts'
import type { AdminDeps, AdminHandler, AdminRequest } from './admin-deps.ts'
import { adminErrorResponse } from './admin-envelope.ts'
import { endCanary, moveAlias, removeAlias, rollBack, setCanary } from './alias-routes.ts'
import { addQueueBoard, noticeEvent } from './drop-routes.ts'
import { listAudit, listJobs, listProblems } from './log-routes.ts'
import { liftAdapter, pinAdapter, prefetchAdapter, unpinAdapter } from './order-routes.ts'
import { publishFile, publishFromSource, publishUpload } from './publish-routes.ts'
import { drainWorker, explainPlacement, listWorkers } from './worker-routes.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

/** A name is one segment of the path, its `/` written as `%2F`; where nothing can follow it, it may also be written plainly. */
const adminRoutes: readonly (readonly [Method, string, AdminHandler])[] = [
  ['POST', '/admin/adapters', publishFromSource],
  ['GET', '/admin/adapters', listAdapters],
  ['GET', '/admin/adapters/:name{.+}', showAdapter],
  ['DELETE', '/admin/adapters/:name', retireAdapter],
  ['PUT', '/admin/adapters/:name/upload', publishUpload],
  ['PUT', '/admin/adapters/:name/upload/:file', publishFile],
  ['PUT', '/admin/adapters/:name/aliases/:alias', moveAlias],
  ['DELETE', '/admin/adapters/:name/aliases/:alias', removeAlias],
  ['PUT', '/admin/adapters/:name/canary', setCanary],
  ['DELETE', '/admin/adapters/:name/canary', endCanary],
  ['POST', '/admin/adapters/:name/rollback', rollBack],
  ['POST', '/admin/adapters/:name/restore', restoreAdapter],
  ['POST', '/admin/adapters/:name/pin', pinAdapter],
  ['POST', '/admin/adapters/:name/unpin', unpinAdapter],
  ['POST', '/admin/adapters/:name/prefetch', prefetchAdapter],
  ['POST', '/admin/adapters/:name/lift', liftAdapter],
  ['GET', '/admin/workers', listWorkers],
  ['POST', '/admin/workers/:id/drain', drainWorker],
  ['GET', '/admin/explain', explainPlacement],
  ['GET', '/admin/jobs', listJobs],
  ['GET', '/admin/audit', listAudit],
  ['GET', '/admin/problems', listProblems],
  ['POST', '/admin/events/s3', noticeEvent],
]

export interface AdminRoutesDeps extends Pick<GenerateDeps, 'workers' | 'clock' | 'log' | 'newId' | 'shutdown' | 'times'> {
  readonly now: () => Date
  /** Absent: the routes are not there. */
  readonly admin?: AdminDeps
}

/** Which part of a request the framework has read. */
export interface Routed {
  readonly caller: Caller
  readonly param: (name: string) => string
  readonly query: Readonly<Record<string, string>>
}

export function addAdminRoutes(
  app: Hono<{ readonly Bindings: HttpBindings; readonly Variables: CallerVariables }>,
  deps: AdminRoutesDeps,
): void {
  for (const [method, path, handler] of adminRoutes) {
    app.on(method, path, async (c) => {
      const { admin } = deps
      if (admin === undefined) return await c.notFound()
      const routed = { caller: c.var.caller, param: (name: string) => c.req.param(name) ?? '', query: c.req.query() }
      return await administer({ ...deps, admin }, c.env, routed, handler, adminErrorResponse)
    })
  }
  addQueueBoard(app, { drops: deps.admin?.drops, newId: deps.newId })
}

/** Runs one handler with everything it may ask for, and answers whatever it throws. Never rejects. */
export async function administer(
  deps: AdminRoutesDeps & { readonly admin: AdminDeps },
  node: NodeExchange,
  { caller, param, query }: Routed,
  handler: AdminHandler,
  failure: typeof adminErrorResponse,
): Promise<Response> {
  const exchange = openExchange(node, { ...deps, deadlineMs: deps.times.deadlineMs })
  const { admin } = deps
  const { requestId } = exchange
  const json = async () => (await readJsonBody(node.incoming, limits.requestBodyBytes)).value
  const request: AdminRequest = {
    ...admin,
    ...{ caller, param, query, exchange, json },
    ...{ workers: deps.workers, now: deps.now, newId: deps.newId },
    incoming: node.incoming,
    jsonOrNothing: async () => (hasBody(node.incoming) ? await json() : {}),
    prefetch(version) {
      // Its own time: the request that asked for it is answered before.
      admin.pins.order('prefetch', version, deps.shutdown).catch((thrown: unknown) => logFailure(deps.log, thrown, requestId))
    },
    answer: (body, { status = 200, location } = {}) =>
      Response.json(body, {
        status,
        headers: { 'x-request-id': requestId, 'cache-control': 'no-store', ...(location === undefined ? {} : { location }) },
      }),
  }
  try {
    return await handler(request)
  } catch (thrown) {
    logFailure(deps.log, thrown, requestId)
    return failure(thrown, requestId)
  } finally {
    exchange.close()
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
}
