/** Who may use which route. With API keys a route without a row here does not exist. */
import type { Right } from './api-key.ts'

/**
 * `open`: needs no key, since load balancers have none. `key`: any key that is in force. The routes of administration want the admin
 * key or the right `admin`; those of a `publisher` are also there for the right `publish`, for adapters of the key's own tenant.
 */
export type Access = Right | 'open' | 'key' | 'publisher' | 'operator'

/** By method and path as the router has them; `HEAD` counts as `GET`. */
export const routeAccess: ReadonlyMap<string, Access> = new Map<string, Access>([
  ['GET /', 'open'],
  ['GET /health', 'open'],
  ['GET /ping', 'open'],
  ['POST /', 'generate'],
  ['POST /invocations', 'generate'],
  ['POST /generate', 'generate'],
  ['POST /generate_stream', 'generate'],
  ['POST /embed', 'generate'],
  ['POST /classify', 'generate'],
  ['POST /classify_batch', 'generate'],
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
  ['POST /admin/adapters', 'publisher'],
  ['GET /admin/adapters', 'publisher'],
  ['GET /admin/adapters/:name{.+}', 'publisher'],
  ['DELETE /admin/adapters/:name', 'publisher'],
  ['PUT /admin/adapters/:name/upload', 'publisher'],
  ['PUT /admin/adapters/:name/upload/:file', 'publisher'],
  ['PUT /admin/adapters/:name/aliases/:alias', 'publisher'],
  ['DELETE /admin/adapters/:name/aliases/:alias', 'publisher'],
  ['PUT /admin/adapters/:name/canary', 'publisher'],
  ['DELETE /admin/adapters/:name/canary', 'publisher'],
  ['POST /admin/adapters/:name/rollback', 'publisher'],
  ['POST /admin/adapters/:name/restore', 'publisher'],
  ['POST /admin/adapters/:name/pin', 'publisher'],
  ['POST /admin/adapters/:name/unpin', 'publisher'],
  ['POST /admin/adapters/:name/prefetch', 'publisher'],
  ['POST /admin/adapters/:name/lift', 'operator'],
  ['GET /admin/workers', 'operator'],
  ['POST /admin/workers/:id/drain', 'operator'],
  ['GET /admin/explain', 'operator'],
  ['GET /admin/jobs', 'operator'],
  ['GET /admin/audit', 'operator'],
  ['GET /admin/problems', 'operator'],
  ['POST /admin/events/s3', 'operator'],
  ['ALL /admin/queues/*', 'operator'],
  ['POST /v1/load_lora_adapter', 'publisher'],
  ['POST /v1/unload_lora_adapter', 'publisher'],
  ['POST /load_lora_adapter', 'publisher'],
  ['POST /unload_lora_adapter', 'publisher'],
])
