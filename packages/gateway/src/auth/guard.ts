/** Stands before every route: nothing is done, and no body read, for a request that may not be made. */
import type { IncomingHttpHeaders } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { type Logger, ServingError } from '@quiver/protocol'
import type { Context, MiddlewareHandler } from 'hono'
import { matchedRoutes } from 'hono/route'
import { ADMIN_KEY_ID, isAdminKey, isFromThisMachine } from './administration.ts'
import type { ApiKey, Right } from './api-key.ts'
import { type Access, routeAccess } from './route-rights.ts'
import type { RunShare } from './run-share.ts'

/** Where keys are known; `Keyring` is one. */
export interface KeySource {
  identify(secret: string): ApiKey | undefined
}

/** For whom a request is answered. */
export interface Caller {
  readonly tenant: string
  /** Absent when the server has no keys. */
  readonly keyId?: string
  /** What the key says of its requests; absent: nothing. */
  readonly share?: RunShare
  /** On the routes of administration: may change everybody's adapters, not only those of its tenant. */
  readonly isOperator?: true
}

/** Who calls a server that has no keys. No adapter is private to it. */
export const anyone: Caller = { tenant: 'default' }

export type CallerVariables = { readonly caller: Caller }

export interface GuardDeps {
  /** Absent: every route is open, but for administration. */
  readonly keys?: KeySource
  /** What opens the routes of administration; absent: only keys, or where there are none this machine. */
  readonly adminKey?: string
  readonly log: Logger
  readonly refuse: (c: Context, error: ServingError, headers: Record<string, string>) => Response
}

type GuardEnv = { readonly Bindings: HttpBindings; readonly Variables: CallerVariables }

/**
 * 401 for a wrong or missing key, always in the same words; 403 for a key without the route's right. A path without a route
 * and a route without a row of the table are the same to a key's owner, and 401 to everybody else. A route of administration is
 * not there for who may not administer.
 */
export function guard(deps: GuardDeps): MiddlewareHandler<GuardEnv> {
  const { keys, adminKey, log, refuse } = deps
  return async (c, next) => {
    c.set('caller', anyone)
    const access = accessOf(c)
    const isAdministration = access === 'publisher' || access === 'operator'
    if (access === 'open' || (keys === undefined && !isAdministration)) return await next()
    const shown = shownKey(c.req.raw.headers) ?? ''
    if (isAdministration && adminKey !== undefined && isAdminKey(adminKey, shown)) {
      c.set('caller', { ...anyone, keyId: ADMIN_KEY_ID, isOperator: true })
      return await next()
    }
    if (keys === undefined && adminKey === undefined) {
      if (!isFromThisMachine(c.env.incoming)) return await c.notFound()
      c.set('caller', { ...anyone, isOperator: true })
      return await next()
    }
    const key = keys?.identify(shown)
    if (key === undefined) {
      log('debug', 'a request without a valid key was refused', { path: c.req.path.slice(0, 80), requestId: requestIdOf(c) })
      return refuse(c, unauthenticated(), { 'www-authenticate': 'Bearer' })
    }
    if (access === undefined) return await c.notFound()
    if (isAdministration) {
      const isOperator = key.rights.includes('admin')
      if (!isOperator && (access === 'operator' || !key.rights.includes('publish'))) return await c.notFound()
      c.set('caller', { tenant: key.tenant, keyId: key.id, ...(isOperator ? { isOperator } : {}) })
      return await next()
    }
    if (access !== 'key' && !key.rights.includes(access)) {
      log('debug', 'a key without the right was refused', {
        keyId: key.id,
        tenant: key.tenant,
        right: access,
        requestId: requestIdOf(c),
      })
      return refuse(c, new ServingError('missing_right', `This API key does not have the right '${access}'`), {})
    }
    c.set('caller', callerOf(key))
    return await next()
  }
}

/** The app has put one there. */
function requestIdOf({ env }: Context<GuardEnv>): string {
  return String(env.incoming.headers['x-request-id'])
}

function accessOf(c: Context<GuardEnv>): Access | undefined {
  const route = matchedRoutes(c).find(({ path }) => path !== '/*')
  return route === undefined ? undefined : routeAccess.get(`${route.method} ${route.path}`)
}

/** Who shows a key that is in force and has this right; undefined: the request is not to be answered, or not without asking further. */
export function callerWith(keys: KeySource, headers: IncomingHttpHeaders, right: Right): Caller | undefined {
  const { authorization, 'x-api-key': apiKey } = headers
  const key = keys.identify(keyOf(authorization, typeof apiKey === 'string' ? apiKey : undefined) ?? '')
  return key?.rights.includes(right) ? callerOf(key) : undefined
}

function callerOf({ tenant, id, weight, priority }: ApiKey): Caller {
  const share = { ...(weight === undefined ? {} : { weight }), ...(priority === undefined ? {} : { priority }) }
  return { tenant, keyId: id, share }
}

function shownKey(headers: Headers): string | undefined {
  return keyOf(headers.get('authorization') ?? undefined, headers.get('x-api-key') ?? undefined)
}

/** `Authorization: Bearer …`, or else `x-api-key`. */
function keyOf(authorization = '', apiKey: string | undefined): string | undefined {
  return /^bearer +(\S+)$/i.exec(authorization)?.[1] ?? apiKey
}

function unauthenticated(): ServingError {
  return new ServingError(
    'unauthenticated',
    'This server wants a valid API key: send it as `Authorization: Bearer` and the key, or as `x-api-key`',
  )
}

/** Makes everything done for a request say for whom. */
export function callerLog(log: Logger, caller: Caller): Logger {
  if (caller.keyId === undefined) return log
  const who = { tenant: caller.tenant, keyId: caller.keyId }
  return (level, message, context) => log(level, message, { ...context, ...who })
}
