/** Who may administer, and what everybody else is told. */
import { randomBytes, randomUUID } from 'node:crypto'
import { request as nodeRequest } from 'node:http'
import { networkInterfaces } from 'node:os'
import path from 'node:path'
import { changeKeys, Keyring, makeKey, type Right } from '@quiver/gateway'
import { afterEach, describe, expect, test } from 'vitest'
import { isFromThisMachine } from '../../../packages/gateway/src/auth/administration.ts'
import { type AdminUnderTest, smallAdapter, startAdmin, uploadForm } from '../../support/admin-under-test.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

let under: AdminUnderTest
afterEach(() => under?.close())

/** Sends headers as they are, which `fetch` would not. */
async function status(url: string, headers: Record<string, string>): Promise<number> {
  return await new Promise((resolve, reject) => {
    const sent = nodeRequest(url, { headers }, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
    sent.on('error', reject)
    sent.end()
  })
}

async function withKeys(adminKey?: string): Promise<Record<'admin' | 'acme' | 'globex' | 'reader', string>> {
  const file = path.join(await temporaryFolder(), 'keys.json')
  const add = async (tenant: string, rights: readonly Right[]) => {
    const { secret, entry } = makeKey({ tenant, rights }, { drawBytes: randomBytes, now: () => new Date(0) })
    await changeKeys(file, randomUUID, (keys) => [...keys, entry])
    return secret
  }
  const secrets = {
    admin: await add('ops', ['admin']),
    acme: await add('acme', ['publish', 'generate']),
    globex: await add('globex', ['publish', 'generate']),
    reader: await add('acme', ['generate']),
  }
  const deps = { keys: Keyring.open(file, () => {}), ...(adminKey === undefined ? {} : { adminKey }) }
  under = await startAdmin({ deps })
  return secrets
}

const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` })

describe('T09: a server with neither an admin key nor API keys', () => {
  const headers: readonly (readonly [string, Record<string, string>])[] = [
    ['that a proxy has passed on', { 'x-forwarded-for': '127.0.0.1' }],
    ['with a proxy in another header', { forwarded: 'for=127.0.0.1' }],
    ['via something', { via: '1.1 proxy' }],
    ['for a host of somebody else', { host: 'rebound.example' }],
    ["from a page of another origin in the operator's browser", { origin: 'http://evil.example' }],
    ['from such a page that hides its origin', { 'sec-fetch-site': 'cross-site' }],
    ['from a page without an origin', { origin: 'null' }],
  ]

  test.each(headers)('has no administration for a request %s', async (_, given) => {
    under = await startAdmin()
    for (const route of ['/admin/adapters', '/admin/audit', '/v1/load_lora_adapter']) {
      expect(await status(under.url + route, given)).toBe(await status(`${under.url}/nowhere`, given))
    }
    expect(await status(`${under.url}/admin/adapters`, {})).toBe(200)
  })

  test('answers this machine and its own pages', async () => {
    under = await startAdmin()
    const { host } = new URL(under.url)
    expect(await status(`${under.url}/admin/adapters`, { origin: `http://${host}`, 'sec-fetch-site': 'same-origin' })).toBe(200)
  })

  test('is asked from this machine only over a loopback address, however that is written', () => {
    const from = (remoteAddress: string | undefined, host = 'localhost:8080') =>
      isFromThisMachine({ socket: { remoteAddress }, headers: { host } } as Parameters<typeof isFromThisMachine>[0])
    for (const address of ['127.0.0.1', '127.8.9.1', '::1', '::ffff:127.0.0.1']) expect(from(address), address).toBe(true)
    for (const address of [undefined, '', '10.0.0.1', '::ffff:10.0.0.1', '192.168.127.1', '2001:db8::1', '127.0.0.1.example']) {
      expect(from(address), address).toBe(false)
    }
    for (const host of ['[::1]:80', '127.0.0.1', 'LOCALHOST']) expect(from('127.0.0.1', host), host).toBe(true)
    for (const host of ['', 'localhost.example', '127.0.0.1.nip.io', '0.0.0.0', 'user@evil.example']) {
      expect(from('127.0.0.1', host), host).toBe(false)
    }
  })

  test('has none for another address of this very machine', async () => {
    const outside = Object.values(networkInterfaces()).flatMap(
      (all = []) => all.find(({ family, internal }) => family === 'IPv4' && !internal) ?? [],
    )[0]
    under = await startAdmin({ config: { host: '0.0.0.0' } })
    if (outside === undefined) return
    const url = under.url.replace('127.0.0.1', outside.address)
    expect(await status(`${url}/health`, {})).toBe(200)
    expect(await status(`${url}/admin/adapters`, { host: 'localhost' })).toBe(404)
  })
})

describe('an admin key', () => {
  test('opens everything, and its lack or a wrong one is 401, also from this machine', async () => {
    under = await startAdmin({ deps: { adminKey: 'right-secret' } })
    const ask = (headers: Record<string, string>) => under.ask('GET', '/admin/audit', undefined, headers)
    expect((await ask(bearer('right-secret'))).status).toBe(200)
    expect((await ask({ 'x-api-key': 'right-secret' })).status).toBe(200)
    for (const headers of [{}, bearer('right-secre'), bearer('right-secretx'), { authorization: 'Basic right-secret' }]) {
      const refused = await ask(headers)
      expect([refused.status, refused.json, refused.headers['www-authenticate']]).toMatchObject([
        401,
        { error_type: 'unauthenticated' },
        'Bearer',
      ])
    }
    expect((await under.ask('POST', '/v1/load_lora_adapter', {})).status).toBe(401)
    expect((await under.post('/generate', { inputs: 'Hi' })).status).toBe(200)
  })

  test('is none of the API keys, and works beside them', async () => {
    const keys = await withKeys('the-admin-key')
    expect((await under.ask('GET', '/admin/adapters', undefined, bearer('the-admin-key'))).status).toBe(200)
    expect((await under.ask('GET', '/admin/adapters', undefined, bearer(keys.admin))).status).toBe(200)
    expect((await under.post('/generate', { inputs: 'Hi' }, bearer('the-admin-key'))).status).toBe(401)
  })

  test('is who did it, in the audit log', async () => {
    under = await startAdmin({ deps: { adminKey: 'right-secret' } })
    await under.ask('PUT', '/admin/adapters/a/upload', uploadForm(smallAdapter(1)), bearer('right-secret'))
    const { json, text } = await under.ask('GET', '/admin/audit', undefined, bearer('right-secret'))
    expect(json).toMatchObject({ events: [{ action: 'publish', actor: { keyId: 'admin-key' } }] })
    expect(text).not.toContain('right-secret')
  })
})

describe('API keys', () => {
  test('T09: administration is not there for a key without a right to it', async () => {
    const { reader, acme } = await withKeys()
    const nowhere = await under.ask('GET', '/admin/nowhere', undefined, bearer(reader))
    for (const [method, route, secret] of [
      ['GET', '/admin/adapters', reader],
      ['POST', '/admin/adapters', reader],
      ['DELETE', '/admin/adapters/a', reader],
      ['GET', '/admin/audit', acme],
      ['GET', '/admin/jobs', acme],
      ['GET', '/admin/problems', acme],
      ['POST', '/admin/adapters/a/lift', acme],
    ] as const) {
      const answered = await under.ask(method, route, undefined, bearer(secret))
      expect([answered.status, answered.json], route).toEqual([404, nowhere.json])
    }
    expect((await under.ask('GET', '/admin/adapters')).status).toBe(401)
  })

  test('a publisher makes adapters of its own tenant, changes them, and no others', async () => {
    const { admin, acme, globex } = await withKeys()
    const put = (secret: string, name: string, n: number, fields: Record<string, string> = {}) =>
      under.ask('PUT', `/admin/adapters/${name}/upload`, uploadForm(smallAdapter(n), fields), bearer(secret))
    expect([(await put(acme, 'mine', 1)).json, (await put(admin, 'ours', 2)).status]).toMatchObject([{ tenant: 'acme' }, 201])
    const generate = async (secret: string, id: string) =>
      (await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: id } }, bearer(secret))).status
    expect([await generate(acme, 'mine'), await generate(globex, 'mine'), await generate(globex, 'ours')]).toEqual([
      200, 424, 200,
    ])

    const list = async (secret: string) =>
      (
        (await under.ask('GET', '/admin/adapters', undefined, bearer(secret))).json as { adapters: { name: string }[] }
      ).adapters.map(({ name }) => name)
    expect([await list(acme), await list(globex), await list(admin)]).toEqual([['mine', 'ours'], ['ours'], ['mine', 'ours']])

    const own = ['unknown', 'mine'] as const
    const hidden = await Promise.all(
      own.map(async (name) =>
        (await under.ask('GET', `/admin/adapters/${name}`, undefined, bearer(globex))).text.replace(name, ''),
      ),
    )
    expect(hidden[0]).toBe(hidden[1])
    for (const [method, route] of [
      ['DELETE', ''],
      ['POST', '/pin'],
      ['POST', '/rollback'],
    ] as const) {
      expect((await under.ask(method, `/admin/adapters/mine${route}`, undefined, bearer(globex))).status).toBe(404)
      expect((await under.ask(method, `/admin/adapters/ours${route}`, undefined, bearer(globex))).status).toBe(403)
    }
    expect((await put(globex, 'mine', 3)).status).toBe(409)
    expect((await put(globex, 'ours', 3)).status).toBe(409)
    expect((await put(globex, 'new', 3, { tenant: 'acme' })).json).toMatchObject({ error_type: 'missing_right' })
    const fromStore = { name: 'stolen', source: { type: 'store', uri: 'store/sha256/aa' } }
    expect((await under.ask('POST', '/admin/adapters', fromStore, bearer(globex))).status).toBe(403)
    expect((await under.ask('DELETE', '/admin/adapters/mine', undefined, bearer(acme))).status).toBe(200)
    expect(await generate(acme, 'mine')).toBe(424)
  })

  test('an operator can publish for a tenant', async () => {
    const { admin, acme, globex } = await withKeys()
    await under.ask('PUT', '/admin/adapters/theirs/upload', uploadForm(smallAdapter(1), { tenant: 'acme' }), bearer(admin))
    const models = async (secret: string) => (await under.ask('GET', '/v1/models', undefined, bearer(secret))).text
    expect([(await models(acme)).includes('theirs'), (await models(globex)).includes('theirs')]).toEqual([true, false])
  })
})
