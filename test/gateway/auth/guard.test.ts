/** faults.md T01–T03 and H14 over real sockets: what a key opens, and what everybody else is told. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Catalogue, changeKeys, Keyring, makeKey, type Right } from '@quiver/gateway'
import { type AdapterDigest, parseAdapterName } from '@quiver/protocol'
import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { routeAccess } from '../../../packages/gateway/src/auth/route-rights.ts'
import { type AppDeps, createApp } from '../../../packages/gateway/src/routes/app.ts'
import { type GatewayUnderTest, startGateway } from '../../support/gateway-under-test.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { accepted, done, helloWorld, type ScriptedRun, token } from '../../support/scripted-worker.ts'

const now = () => new Date('2026-01-02T03:04:05Z')
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

let under: GatewayUnderTest
let folder: string
let file: string
const secrets: Record<string, string> = {}
const lines: string[] = []

async function addKey(name: string, tenant: string, rights: readonly Right[]): Promise<string> {
  const { secret, entry } = makeKey({ tenant, rights }, { drawBytes: randomBytes, now })
  await changeKeys(file, randomUUID, (keys) => [...keys, entry])
  secrets[name] = secret
  return entry.id
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'quiver-test-'))
  file = path.join(folder, 'keys.json')
  await addKey('acme', 'acme', ['generate'])
  await addKey('globex', 'globex', ['generate'])
  await addKey('publisher', 'acme', ['publish'])
  const catalogue = new Catalogue(new MemoryStore())
  const enter = (name: string, version: number, tenant?: string) =>
    catalogue.add({
      name: parseAdapterName(name),
      version,
      digest: `${version}`.repeat(64) as AdapterDigest,
      base: 'smollm2-135m-instruct',
      rank: 8,
      modules: ['q_proj'],
      bytes: 1000,
      createdAt: now().toISOString(),
      ...(tenant === undefined ? {} : { tenant }),
    })
  await enter('public', 1)
  await enter('secret-a', 1, 'acme')
  await enter('mixed', 1)
  await enter('mixed', 2, 'acme')
  const keys = Keyring.open(file, () => {})
  under = await startGateway(
    {},
    { catalogue, keys, log: (_, message, context) => lines.push(`${message} ${JSON.stringify(context)}`) },
  )
})
afterAll(async () => {
  await under.close()
  await rm(folder, { recursive: true, force: true })
})

const bearer = (name: string) => ({ authorization: `Bearer ${secrets[name]}` })

async function ask(method: (typeof methods)[number] | 'OPTIONS', route: string, headers: Record<string, string> = {}) {
  const { statusCode, headers: answered, body } = await request(under.url + route, { method, headers })
  return { status: statusCode, headers: answered, text: await body.text() }
}

/** An answer without what differs between any two. */
function essence({ status, headers, text }: Awaited<ReturnType<typeof ask>>) {
  const { date: _, 'x-request-id': __, ...rest } = headers
  return { status, headers: rest, text }
}

describe('H14: every route and method without a key', () => {
  // Only its routes are looked at.
  const { routes } = createApp({ now, version: '1' } as Partial<AppDeps> as AppDeps)

  test('has a row that says who may use it', () => {
    const known = routes.filter(({ path: route }) => route !== '/*').map(({ method, path: route }) => `${method} ${route}`)
    expect(known.length).toBeGreaterThan(10)
    expect(known.filter((route) => !routeAccess.has(route))).toEqual([])
  })

  test('is 401, but for the three that say whether the server is well', async () => {
    const paths = [...new Set(routes.filter(({ path: route }) => route !== '/*').map(({ path: route }) => route))]
    const walked = [
      '/nowhere',
      '/v1/nowhere',
      '/__proto__',
      '/v1',
      '/generate/',
      ...paths.map((route) => route.replace(/:.*$/, 'public')),
    ]
    const open: string[] = []
    for (const route of walked) {
      for (const method of methods) {
        const { status, headers, text } = await ask(method, route)
        if (status !== 401) open.push(`${method} ${route} ${status}`)
        else {
          expect(headers['www-authenticate']).toBe('Bearer')
          if (method !== 'HEAD')
            expect(JSON.parse(text)).toMatchObject(
              route.startsWith('/v1/') ? { error: { code: 'unauthenticated' } } : { error_type: 'unauthenticated' },
            )
        }
      }
    }
    expect(open).toEqual(openRoutes(walked))
    expect(under.worker.requests).toEqual([])
  })

  test('a preflight, which cannot carry one, is answered alike for every path', async () => {
    const [there, nowhere] = [await ask('OPTIONS', '/generate'), await ask('OPTIONS', '/nowhere')]
    expect(essence(there)).toEqual(essence(nowhere))
    expect([there.status, there.headers['access-control-allow-headers']]).toEqual([
      204,
      'content-type,authorization,x-api-key,x-priority',
    ])
  })

  test('with a key it is 404 or 405 where there is no route', async () => {
    expect((await ask('GET', '/nowhere', bearer('acme'))).status).toBe(404)
    expect((await ask('PUT', '/generate', bearer('acme'))).status).toBe(405)
  })
})

function openRoutes(walked: readonly string[]): string[] {
  return walked
    .filter((route) => ['/', '/health', '/ping'].includes(route))
    .flatMap((route) => [`GET ${route} 200`, `HEAD ${route} 200`])
}

describe('T01: a wrong key', () => {
  test.each(['/generate', '/v1/completions'])('and a near miss are answered on %s as none at all', async (route) => {
    const right = secrets['acme'] ?? ''
    const near = right.slice(0, -1) + (right.endsWith('A') ? 'B' : 'A')
    const wrong = [near, right.slice(0, 20), `${right}x`, right.toUpperCase(), 'quiver_', 'x'.repeat(4000)]
    const none = essence(await ask('POST', route))
    expect(none.status).toBe(401)
    for (const key of wrong) {
      expect(essence(await ask('POST', route, { authorization: `Bearer ${key}` }))).toEqual(none)
      expect(essence(await ask('POST', route, { 'x-api-key': key }))).toEqual(none)
    }
    expect(essence(await ask('POST', route, { authorization: `Basic ${right}` }))).toEqual(none)
  })
})

describe('a right key', () => {
  test.each([
    ['Authorization', () => bearer('acme')],
    ['x-api-key', () => ({ 'x-api-key': secrets['acme'] ?? '' })],
  ] as const)('is taken from %s, and its tenant reaches the worker', async (_, headers) => {
    expect((await under.post('/generate', { inputs: 'Hi' }, headers())).status).toBe(200)
    expect(under.worker.requests.at(-1)?.tenant).toBe('acme')
    expect((await under.post('/v1/completions', { prompt: 'Hi' }, headers())).status).toBe(200)
    expect(under.worker.requests.at(-1)?.tenant).toBe('acme')
  })

  test('without the right is 403 in the words of the route', async () => {
    const lorax = await under.post('/generate', { inputs: 'Hi' }, bearer('publisher'))
    expect([lorax.status, lorax.json]).toEqual([
      403,
      { error: "This API key does not have the right 'generate'", error_type: 'missing_right' },
    ])
    const openai = await under.post('/v1/chat/completions', { messages: [] }, bearer('publisher'))
    expect(openai.status).toBe(403)
    expect(openai.json).toMatchObject({ error: { type: 'permission_error', code: 'missing_right' } })
  })

  test('reads the metrics of all tenants only with the right admin', async () => {
    await addKey('operator', 'ops', ['admin'])
    expect((await ask('GET', '/metrics', bearer('acme'))).status).toBe(403)
    const { status, text } = await ask('GET', '/metrics', bearer('operator'))
    expect([status, text]).toEqual([200, expect.stringContaining('lorax_request_count')])
    expect((await under.post('/generate', { inputs: 'Hi' }, bearer('operator'))).status).toBe(403)
  })

  test('is in the log with its tenant, but not its secret', async () => {
    await under.post('/generate', { inputs: '' }, bearer('globex'))
    expect(lines.at(-1)).toContain('"tenant":"globex","keyId":')
    expect(lines.join('\n')).not.toContain(secrets['globex'])
  })
})

test('a refusal is logged under the id that its answer has', async () => {
  const logged = lines.length
  const { headers } = await ask('POST', '/generate')
  expect(lines.slice(logged).join()).toContain(String(headers['x-request-id']))
})

describe("T02: another tenant's adapter", () => {
  const naming: readonly (readonly [string, (adapter: string) => object])[] = [
    ['/generate', (id) => ({ inputs: 'Hi', parameters: { adapter_id: id } })],
    ['/generate_stream', (id) => ({ inputs: 'Hi', parameters: { adapter_id: id } })],
    ['/', (id) => ({ inputs: 'Hi', parameters: { adapter_id: id } })],
    ['/invocations', (id) => ({ inputs: 'Hi', parameters: { adapter_id: `${id}@1` } })],
    ['/generate', (id) => ({ inputs: 'Hi', parameters: { adapter_id: `${id}@sha256:${'1'.repeat(64)}` } })],
    ['/generate', (id) => ({ inputs: 'Hi', parameters: { merged_adapters: { ids: ['public', id], weights: [1, 1] } } })],
    ['/v1/completions', (id) => ({ model: id, prompt: 'Hi' })],
    ['/v1/completions', (id) => ({ model: `${id}@latest`, prompt: 'Hi', stream: true })],
    ['/v1/embeddings', (id) => ({ model: id, input: ['Hi'] })],
    ['/v1/chat/completions', (id) => ({ model: id, messages: [{ role: 'user', content: 'Hi' }] })],
  ]

  test.each(naming)('on %s it is answered byte for byte as one that does not exist', async (route, body) => {
    const before = under.worker.requests.length
    const send = async (id: string) => {
      const answer = await under.post(route, body(id), bearer('globex'))
      return JSON.parse(JSON.stringify(essence(answer)).replaceAll(id, 'NAME'))
    }
    expect(await send('secret-a')).toEqual(await send('secret-z'))
    expect(under.worker.requests.length).toBe(before)
    const own = await under.post(route, body('secret-a'), bearer('acme'))
    expect([own.status, under.worker.requests.length]).toEqual([200, before + 1])
  })

  test('is not among the models, and its newer version is not its name', async () => {
    const ids = async (name: string) => {
      const { data } = JSON.parse((await ask('GET', '/v1/models', bearer(name))).text)
      return data.map(({ root }: { root: string }) => root.slice(0, 20))
    }
    expect(await ids('globex')).toEqual(['smollm2-135m-instruct'.slice(0, 20), 'mixed@sha256:1111111', 'public@sha256:111111'])
    expect(await ids('acme')).toEqual([
      'smollm2-135m-instruct'.slice(0, 20),
      'mixed@sha256:2222222',
      'public@sha256:111111',
      'secret-a@sha256:1111',
    ])
    const [private_, none] = await Promise.all(
      ['secret-a', 'secret-z'].map(async (id) => {
        const answer = await ask('GET', `/v1/models/${id}`, bearer('globex'))
        return JSON.parse(JSON.stringify(essence(answer)).replaceAll(id, 'NAME'))
      }),
    )
    expect(private_).toEqual(none)
    const missing = await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: 'mixed@2' } }, bearer('globex'))
    const never = await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: 'mixed@3' } }, bearer('globex'))
    expect(missing.text.replace("'2'", "'3'")).toBe(never.text)
  })
})

describe('T03: a key that is revoked', () => {
  test('lets its running stream end, and is 401 from the next request on', async () => {
    const id = await addKey('short', 'acme', ['generate'])
    const started = Promise.withResolvers<ScriptedRun>()
    under.worker.script = (run) => {
      run.send(accepted, token('Hello'))
      started.resolve(run)
    }
    const streaming = under.post('/generate_stream', { inputs: 'Hi' }, bearer('short'))
    const run = await started.promise
    await changeKeys(file, randomUUID, (keys) => keys.filter((key) => key.id !== id))
    under.worker.script = helloWorld
    expect((await under.post('/generate', { inputs: 'Hi' }, bearer('short'))).status).toBe(401)
    run.send(token(' world', true), done('Hello world'))
    run.end()
    expect((await streaming).text).toContain('"generated_text":"Hello world"')
  })
})
