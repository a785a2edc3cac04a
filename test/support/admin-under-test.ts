/** A gateway with administration, over a store in memory and a scripted worker, and how to ask it. */
import { fetchSource } from '@quiver/cache/origin'
import {
  AdapterRegistrar,
  type AdminDeps,
  Catalogue,
  type GatewayConfig,
  type GatewayDeps,
  noJobs,
  PinKeeper,
  systemClock,
} from '@quiver/gateway'
import { nodeTimers } from '@quiver/worker'
import { type Dispatcher, request } from 'undici'
import { buildAdapter } from './adapter-files.ts'
import { type Answer, type GatewayUnderTest, startGateway } from './gateway-under-test.ts'
import { MemoryStore } from './memory-store.ts'
import { smollm2Layout } from './smollm2-layout.ts'

export interface AdminUnderTest extends GatewayUnderTest {
  readonly store: MemoryStore
  readonly catalogue: Catalogue
  readonly pins: PinKeeper
  /** The worker goes and becomes ready again. */
  rejoin(): Promise<void>
  /** Sends JSON, or bytes as they are; without a body none. */
  ask(method: Dispatcher.HttpMethod, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
}

export interface AdminOptions {
  readonly config?: Partial<GatewayConfig>
  readonly deps?: Partial<GatewayDeps>
  readonly localRoots?: readonly string[]
  readonly hubEndpoint?: string
  readonly jobs?: AdminDeps['jobs']
}

export const administeredAt = new Date('2026-01-02T03:04:05.000Z')

export async function startAdmin({
  config = {},
  deps = {},
  localRoots = [],
  hubEndpoint,
  jobs = noJobs,
}: AdminOptions = {}): Promise<AdminUnderTest> {
  const store = new MemoryStore()
  const catalogue = new Catalogue(store)
  await catalogue.load()
  const clock = systemClock()
  const now = () => administeredAt
  // The gateway makes its workers; what needs them asks when it is used.
  let under: GatewayUnderTest | undefined
  const started = () => {
    if (under === undefined) throw new Error('the gateway is not started yet')
    return under
  }
  const workers = {
    get info() {
      return started().pool.info
    },
    infoOf: (base: string) => started().pool.infoOf(base),
    get bases() {
      return started().pool.bases
    },
    get arrivals() {
      return started().pool.arrivals
    },
    adapters: (...args: Parameters<GatewayUnderTest['pool']['adapters']>) => started().pool.adapters(...args),
    order: (...args: Parameters<GatewayUnderTest['pool']['order']>) => started().pool.order(...args),
  }
  const remote = {
    hub: hubEndpoint === undefined ? {} : { endpoint: hubEndpoint },
    buckets: { allowed: [], open: async () => store },
    fetch,
    timers: nodeTimers,
  }
  const registrar = new AdapterRegistrar({
    ...{ store, catalogue, workers, now },
    fetchSource: (source, limits, signal) => fetchSource(source, { limits, clock, remote, localRoots, store }, signal),
  })
  const pins = new PinKeeper({ catalogue, workers, clock, log: () => {} })
  under = await startGateway(config, { catalogue, ...deps, admin: { catalogue, store, registrar, pins, jobs } })
  const { url } = under
  return {
    ...under,
    ...{ store, catalogue, pins },
    async rejoin() {
      const { worker, pool } = started()
      pool.remove(worker.url)
      await pool.add(worker, 5000)
    },
    ask: (method, path, body, headers) => send(method, url + path, body, headers),
    async close() {
      pins.close()
      await under?.close()
    },
  }
}

async function send(
  method: Dispatcher.HttpMethod,
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const sent = await encoded(body)
  const response = await request(url, { method, headers: { ...sent?.headers, ...headers }, body: sent?.bytes ?? null })
  const text = await response.body.text()
  return { status: response.statusCode, headers: response.headers, text, json: parse(text) }
}

/** A form is written out here, with a length that is known. */
async function encoded(
  body: unknown,
): Promise<{ readonly headers: Record<string, string>; readonly bytes: Uint8Array | string } | undefined> {
  if (body === undefined) return undefined
  if (body instanceof Uint8Array) return { headers: {}, bytes: body }
  if (!(body instanceof FormData)) return { headers: { 'content-type': 'application/json' }, bytes: JSON.stringify(body) }
  const form = new Response(body)
  return { headers: { 'content-type': form.headers.get('content-type') ?? '' }, bytes: new Uint8Array(await form.arrayBuffer()) }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** An adapter for the scripted worker's model; the same number is the same content. */
export function smallAdapter(n: number, config: Record<string, unknown> = {}) {
  return buildAdapter({ layout: smollm2Layout, rank: 1, targets: ['k_proj'], value: (_, i) => n + i / 8, config })
}

export function uploadForm(
  adapter: { readonly config: Uint8Array; readonly weights: Uint8Array },
  fields: Record<string, string> = {},
): FormData {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.set(name, value)
  form.set('adapter_config.json', new Blob([new Uint8Array(adapter.config)]), 'adapter_config.json')
  form.set('adapter_model.safetensors', new Blob([new Uint8Array(adapter.weights)]), 'adapter_model.safetensors')
  return form
}
