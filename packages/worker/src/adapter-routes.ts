import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type AdapterDigest,
  type AdapterOrder,
  type AdapterOrderKind,
  type AdapterPresences,
  adapterOrderKinds,
  adapterOrderSchema,
  limits,
  parseAdapterDigest,
  ServingError,
} from '@quiver/protocol'
import type { Hono } from 'hono'
import { parseBody, readBody } from './request-body.ts'

/** What a gateway may ask about adapters, and tell to be done with them. */
export interface AdapterActions {
  /** @throws ServingError `not_ready` while starting */
  adapters(digest?: AdapterDigest): AdapterPresences
  /**
   * Carries an order out; aborting gives a prefetch or pin up.
   * @throws ServingError why it cannot be; `not_ready` while starting
   */
  order(kind: AdapterOrderKind, order: AdapterOrder, signal: AbortSignal): Promise<AdapterPresences>
}

export const adapterMethods: Readonly<Record<string, string>> = {
  '/v1/adapters': 'GET',
  ...Object.fromEntries(adapterOrderKinds.map((kind) => [`/v1/adapters/${kind}`, 'POST'])),
}

type Env = { Bindings: { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse } }

export function addAdapterRoutes<E extends Env>(app: Hono<E>, actions: AdapterActions): void {
  app.get('/v1/adapters', (context) => {
    const digest = context.req.query('digest')
    return context.json(actions.adapters(digest === undefined ? undefined : parseAdapterDigest(digest)))
  })
  for (const kind of adapterOrderKinds) {
    app.post(`/v1/adapters/${kind}`, async (context) => {
      const { incoming, outgoing } = context.env
      const body = await readBody(incoming, limits.runRequestBytes)
      const order = parseBody(adapterOrderSchema, 'an order about an adapter', body)
      return context.json(await actions.order(kind, order, leavingOf(outgoing)))
    })
  }
}

/** Aborted when whoever gave the order does not wait for its end. */
function leavingOf(outgoing: ServerResponse): AbortSignal {
  const left = new AbortController()
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) left.abort(new ServingError('client_closed', 'whoever gave the order has gone'))
  })
  return left.signal
}
