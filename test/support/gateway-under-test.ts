/** The real gateway on a real port, in front of a scripted worker. */

import {
  createGateway,
  type Gateway,
  type GatewayConfig,
  type GatewayDeps,
  type Manifest,
  systemClock,
  WorkerPool,
} from '@quiver/gateway'
import { type AdapterDigest, type AdapterName, type LogLevel, ServingError } from '@quiver/protocol'
import { Agent, request } from 'undici'
import { ScriptedWorker } from './scripted-worker.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown
}

export interface GatewayUnderTest {
  readonly url: string
  readonly worker: ScriptedWorker
  readonly pool: WorkerPool
  readonly gateway: Gateway
  readonly log: readonly { readonly level: LogLevel; readonly message: string }[]
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>
  close(): Promise<void>
}

export const sqlDigest = 'b'.repeat(64) as AdapterDigest

/** Knows one adapter, `text-to-sql`. */
export const smallCatalogue = {
  visibleTo: () => smallView,
}

const smallView = {
  resolve(name: string) {
    if (name === 'text-to-sql') return { name: name as AdapterName, digest: sqlDigest }
    throw new ServingError('adapter_not_found', `Adapter '${name}' is not known here. There are: text-to-sql.`)
  },
  names: () => ['text-to-sql'],
  latest: (name: string): Manifest | undefined =>
    name === 'text-to-sql'
      ? {
          name: name as AdapterName,
          version: 1,
          digest: sqlDigest,
          base: 'smollm2-135m-instruct',
          rank: 8,
          modules: ['q_proj'],
          bytes: 1000,
          createdAt: '2026-01-01T00:00:00.000Z',
        }
      : undefined,
}

export async function startGateway(
  config: Partial<GatewayConfig> & { patienceMs?: number; withoutWorker?: true } = {},
  deps: Partial<GatewayDeps> = {},
): Promise<GatewayUnderTest> {
  const clock = systemClock()
  const agent = new Agent()
  const worker = await ScriptedWorker.start()
  const log: { level: LogLevel; message: string }[] = []
  const pool = new WorkerPool(
    { clock, dispatcher: agent, random: Math.random, log: (level, message) => log.push({ level, message }) },
    { patienceMs: config.patienceMs ?? 2000 },
  )
  let ids = 0
  const gateway = createGateway(
    { host: '127.0.0.1', port: 0, version: '9.9.9', ...config },
    {
      workers: pool,
      catalogue: smallCatalogue,
      clock,
      now: () => new Date('2026-01-02T03:04:05Z'),
      log: (level, message) => log.push({ level, message }),
      drawSeed: () => 42,
      newId: () => `id-${ids++}`,
      ...deps,
    },
  )
  const { url } = await gateway.listen()
  if (config.withoutWorker !== true) {
    gateway.open()
    await pool.add(worker, 5000)
  }
  return {
    url,
    worker,
    pool,
    gateway,
    log,
    post: (path, body, headers) => post(url + path, body, headers),
    async close() {
      await gateway.close(0)
      pool.close()
      await worker.close()
      await agent.destroy()
    },
  }
}

/** Sends JSON (or, given a string, that text) on a connection of its own. */
export async function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await request(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  })
  const text = await response.body.text()
  return { status: response.statusCode, headers: response.headers, text, json: parse(text) }
}

/** The JSON of every `data:` event of a stream. */
export function eventsOf(text: string): unknown[] {
  return text
    .split('\n\n')
    .filter((block) => block.startsWith('data:'))
    .map((block) => JSON.parse(block.slice('data:'.length)))
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
