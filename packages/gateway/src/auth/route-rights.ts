/** Who may use which route. With API keys a route without a row here does not exist. */
import type { Right } from './api-key.ts'

/** `open`: needs no key, since load balancers have none. `key`: any key that is in force. */
export type Access = Right | 'open' | 'key'

/** By method and path as the router has them; `HEAD` counts as `GET`. */
export const routeAccess: ReadonlyMap<string, Access> = new Map<string, Access>([
  ['GET /', 'open'],
  ['GET /health', 'open'],
  ['GET /ping', 'open'],
  ['POST /', 'generate'],
  ['POST /invocations', 'generate'],
  ['POST /generate', 'generate'],
  ['POST /generate_stream', 'generate'],
  ['POST /tokenize', 'generate'],
  ['GET /startup', 'generate'],
  ['GET /info', 'key'],
  ['POST /v1/completions', 'generate'],
  ['POST /v1/chat/completions', 'generate'],
  ['POST /v1/embeddings', 'generate'],
  ['GET /v1/models', 'key'],
  ['GET /v1/models/:id{.+}', 'key'],
  ['GET /docs', 'key'],
  ['GET /openapi.json', 'key'],
  ['GET /api-doc/openapi.json', 'key'],
  // It names adapters of all tenants.
  ['GET /metrics', 'admin'],
])
