/** A gateway with administration, over a store in memory and a scripted worker, and how to ask it. */
import { fetchSource } from '@quiver/cache/origin'
import { AdapterRegistrar, type AdminDeps, Catalogue, type GatewayDeps, noJobs, PinKeeper, systemClock } from '@quiver/gateway'
import { nodeTimers } from '@quiver/worker'
import { type Dispatcher, FormData, request } from 'undici'
import { buildAdapter } from './adapter-files.ts'
import { type Answer, type GatewayUnderTest, startGateway } from './gateway-under-test.ts'
import { MemoryStore } from './memory-store.ts'
import { smollm2Layout } from './smollm2-layout.ts'

export interface AdminUnderTest extends GatewayUnderTest {
  readonly store: MemoryStore
  readonly catalogue: Catalogue
  readonly pins: PinKeeper
  /** Sends JSON, or bytes as they are; without a body none. */
  ask(method: Dispatcher.HttpMethod, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
}

export interface AdminOptions {
  readonly deps?: Partial<GatewayDeps>
  readonly localRoots?: readonly string[]
  readonly hubEndpoint?: string
  readonly jobs?: AdminDeps['jobs']
}

export const administeredAt = new Date('2026-01-02T03:04:05.000Z')

export async function startAdmin({
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
  const sole = () => {
    if (under === undefined) throw new Error('the gateway is not started yet')
    return under.pool
  }
  const workers = {
    get info() {
      return sole().info
    },
    infoOf: (base: string) => sole().infoOf(base),
    get bases() {
      return sole().bases
    },
    get arrivals() {
      return sole().arrivals
    },
    adapters: (...args: Parameters<GatewayUnderTest['pool']['adapters']>) => sole().adapters(...args),
    order: (...args: Parameters<GatewayUnderTest['pool']['order']>) => sole().order(...args),
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
  under = await startGateway({}, { catalogue, ...deps, admin: { catalogue, store, registrar, pins, jobs } })
  const { url } = under
  return {
    ...under,
    ...{ store, catalogue, pins },
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
  const isPlain = body === undefined || body instanceof Uint8Array || body instanceof FormData
  const type: Record<string, string> = isPlain ? {} : { 'content-type': 'application/json' }
  const response = await request(url, {
    method,
    headers: { ...type, ...headers },
    ...(body === undefined ? {} : { body: isPlain ? body : JSON.stringify(body) }),
  })
  const text = await response.body.text()
  return { status: response.statusCode, headers: response.headers, text, json: parse(text) }
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
