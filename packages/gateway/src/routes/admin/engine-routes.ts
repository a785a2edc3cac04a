/**
 * How vLLM and SGLang load and unload adapters while they run: `/v1/load_lora_adapter` and `/load_lora_adapter` publish, their
 * counterparts retire. Statuses and texts are those of vLLM's serving of models and of SGLang's HTTP server.
 */
import type { HttpBindings } from '@hono/node-server'
import { type AdapterSource, parseHubReference } from '@quiver/cache/origin'
import { type AdapterName, parseAdapterName, toServingError } from '@quiver/protocol'
import type { Hono } from 'hono'
import type { CallerVariables } from '../../auth/guard.ts'
import { isServed } from '../../catalogue/name-entry.ts'
import type { Published } from '../../catalogue/publish.ts'
import { type AdminHandler, type AdminRequest, editorOf, viewerOf } from './admin-deps.ts'
import { type AdminRoutesDeps, administer } from './admin-routes.ts'
import { parseAs } from './admin-schema.ts'
import { EngineRefusal, sglangErrorResponse, vllmErrorResponse } from './engine-envelope.ts'
import { loadAdapterSchema, unloadAdapterSchema } from './engine-schema.ts'
import { editingOf, wishesOf } from './wishes.ts'

const engineRoutes: readonly (readonly [path: string, handler: AdminHandler, failure: typeof vllmErrorResponse])[] = [
  ['/v1/load_lora_adapter', async (request) => vllmAnswer(request, 'added', await load(request)), vllmErrorResponse],
  ['/v1/unload_lora_adapter', async (request) => vllmAnswer(request, 'removed', await unload(request)), vllmErrorResponse],
  ['/load_lora_adapter', async (request) => sglangAnswer(request, await load(request)), sglangErrorResponse],
  ['/unload_lora_adapter', async (request) => sglangAnswer(request, await unload(request)), sglangErrorResponse],
]

export function addEngineRoutes(
  app: Hono<{ readonly Bindings: HttpBindings; readonly Variables: CallerVariables }>,
  deps: AdminRoutesDeps,
): void {
  for (const [path, handler, failure] of engineRoutes) {
    app.post(path, async (c) => {
      const { admin } = deps
      if (admin === undefined) return await c.notFound()
      return await administer({ ...deps, admin }, c.env, { caller: c.var.caller, param: () => '', query: {} }, handler, failure)
    })
  }
}

interface Done {
  readonly name: AdapterName
  /** Where it was loaded from. */
  readonly path?: string
  readonly pinned?: boolean
}

async function load(request: AdminRequest): Promise<Done> {
  const { lora_name: said, lora_path: path, load_inplace, pinned } = parseAs(loadAdapterSchema, await request.json())
  if (!said || !path)
    throw new EngineRefusal('invalid_request', 'InvalidUserInput', "Both 'lora_name' and 'lora_path' must be provided.")
  const name = parseAdapterName(said)
  if (load_inplace !== true && isThere(request, name)) {
    const how = "If you want to load the adapter in place, set 'load_inplace' to True."
    throw new EngineRefusal('invalid_request', 'InvalidUserInput', `The lora adapter '${name}' has already been loaded. ${how}`)
  }
  const { manifest } = await register(request, name, path, pinned ?? false)
  request.prefetch(manifest)
  return { name, path, pinned: pinned ?? false }
}

/** A relative path is a folder below a local root where there is one, and else the id of a repository, as with these engines. */
async function register(request: AdminRequest, name: AdapterName, path: string, pinned: boolean): Promise<Published> {
  const wishes = wishesOf(name, pinned ? { pin: true } : {}, request.caller)
  const from = async (source: AdapterSource) => await request.registrar.register(source, wishes, request.exchange.signal)
  if (/^s3:\/\//i.test(path)) return await from({ type: 's3', uri: path })
  if (path.startsWith('/') || path.startsWith('.') || parseHubReference(path) === undefined)
    return await from({ type: 'local', path })
  try {
    return await from({ type: 'local', path })
  } catch (thrown) {
    const { code } = toServingError(thrown)
    if (code !== 'adapter_not_found' && code !== 'forbidden') throw thrown
  }
  return await from({ type: 'hub', id: path })
}

async function unload(request: AdminRequest): Promise<Done> {
  const { lora_name: said } = parseAs(unloadAdapterSchema, await request.json())
  if (!said)
    throw new EngineRefusal('invalid_request', 'InvalidUserInput', "'lora_name' needs to be provided to unload a LoRA adapter.")
  const name = parseAdapterName(said)
  if (!isThere(request, name)) {
    throw new EngineRefusal('adapter_not_found', 'NotFoundError', `The lora adapter '${name}' cannot be found.`)
  }
  await editorOf(request).retire(name, editingOf(request.caller))
  void request.pins.keep()
  return { name }
}

function isThere(request: AdminRequest, name: AdapterName): boolean {
  const entry = request.catalogue.entry(name)
  return entry !== undefined && isServed(entry, viewerOf(request))
}

function vllmAnswer({ exchange }: AdminRequest, done: 'added' | 'removed', { name }: Done): Response {
  const headers = { 'content-type': 'text/plain; charset=utf-8', 'x-request-id': exchange.requestId }
  return new Response(`Success: LoRA adapter '${name}' ${done} successfully.`, { headers })
}

function sglangAnswer({ answer }: AdminRequest, { name, path, pinned }: Done): Response {
  const loaded = path === undefined ? {} : { [name]: { lora_name: name, lora_path: path, pinned } }
  return answer({ success: true, error_message: '', loaded_adapters: loaded })
}
