/** Publishing over REST: from sources, as a form, file by file; and what is refused, with every reason. */
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AdminUnderTest, administeredAt, smallAdapter, startAdmin, uploadForm } from '../../support/admin-under-test.ts'
import { firstCommit } from '../../support/hub-adapters.ts'
import { startHub } from '../../support/hub-server.ts'
import { smollm2Layout } from '../../support/smollm2-layout.ts'

let under: AdminUnderTest
let root: string
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'quiver-test-'))
  under = await startAdmin({ localRoots: [root] })
})
afterEach(async () => {
  await under.close()
  await rm(root, { recursive: true, force: true })
})

async function folder(name: string, n: number, config: Record<string, unknown> = {}): Promise<string> {
  const adapter = smallAdapter(n, config)
  const at = path.join(root, name)
  await mkdir(at, { recursive: true })
  await writeFile(path.join(at, 'adapter_config.json'), adapter.config)
  await writeFile(path.join(at, 'adapter_model.safetensors'), adapter.weights)
  return at
}

const publish = (name: string, where: string, more: object = {}) =>
  under.ask('POST', '/admin/adapters', { name, source: { type: 'local', path: where }, ...more })

describe('POST /admin/adapters', () => {
  test('publishes a folder: 201 with what it is, 200 for the same content, and the name is served at once', async () => {
    await folder('a', 1)
    const first = await publish('acme/a', 'a', { metadata: { run: '17' } })
    expect([first.status, first.headers['location']]).toEqual([201, '/admin/adapters/acme%2Fa'])
    expect(first.json).toEqual({
      ...{ name: 'acme/a', version: 1, digest: expect.stringMatching(/^[0-9a-f]{64}$/), base: smollm2Layout.baseModel, rank: 1 },
      ...{ modules: ['k_proj'], bytes: expect.any(Number), created_at: administeredAt.toISOString() },
      ...{ metadata: { run: '17' }, source: { type: 'local', path: 'a' }, has_chat_template: false },
      ...{ aliases: ['latest'], pinned: false, is_new: true },
    })
    const again = await publish('acme/a', 'a')
    expect([again.status, again.json]).toMatchObject([200, { version: 1, is_new: false }])
    const answered = await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id: 'acme/a' } })
    expect(answered.status).toBe(200)
    expect(under.worker.requests.at(-1)?.adapter).toMatchObject({ kind: 'registered', name: 'acme/a' })
  })

  test('gives other content the next version, under the aliases that are wished', async () => {
    await folder('a', 1)
    await folder('b', 2)
    await publish('acme/a', 'a')
    const second = await publish('acme/a', 'b', { alias: ['next', 'try'], expected: 0 })
    expect([second.status, second.json]).toMatchObject([201, { version: 2, aliases: ['next', 'try'] }])
    const shown = await under.ask('GET', '/admin/adapters/acme%2Fa')
    expect(shown.json).toMatchObject({
      latest: 1,
      aliases: { latest: { version: 1 }, next: { version: 2 }, try: { version: 2 } },
    })
  })

  test('is 409 where the alias names another version than expected', async () => {
    await folder('a', 1)
    await folder('b', 2)
    await publish('acme/a', 'a')
    const refused = await publish('acme/a', 'b', { expected: 7 })
    expect([refused.status, refused.json]).toEqual([
      409,
      { error: expect.stringContaining("alias 'latest' of adapter 'acme/a' names version 1, not 7"), error_type: 'conflict' },
    ])
    const { json } = await under.ask('GET', '/admin/adapters/acme%2Fa')
    expect(json).toMatchObject({ versions: [{ version: 1 }], last_errors: [{ code: 'conflict' }] })
  })

  test('is 422 with every reason for an adapter that does not fit', async () => {
    await folder('bad', 1, { use_dora: true, bias: 'all' })
    const refused = await publish('acme/bad', 'bad')
    expect([refused.status, refused.json]).toMatchObject([422, { error_type: 'adapter_invalid' }])
    expect(refused.text).toMatch(/dora.*bias|bias.*dora/i)
    expect((await under.ask('GET', '/admin/adapters/acme%2Fbad')).status).toBe(404)
  })

  test.each([
    ['an unknown field', { name: 'a', source: { type: 'local', path: 'a' }, alais: 'x' }, 422, /alais/],
    ['a source of no kind', { name: 'a', source: { type: 'ftp', path: 'a' } }, 422, /source/],
    ['several faults', { name: 1, source: { type: 'local' }, pin: 'yes' }, 422, /`name`.*`source.path`.*`pin`/],
    ['a name that is none', { name: '../a', source: { type: 'local', path: 'a' } }, 400, /adapter name/],
    ['an alias that is none', { name: 'a', alias: '3', source: { type: 'local', path: 'a' } }, 400, /not an alias/],
    ['a folder outside of the roots', { name: 'a', source: { type: 'local', path: '/etc' } }, 403, /outside/],
    ['a folder that is not there', { name: 'a', source: { type: 'local', path: 'nothing' } }, 404, /no adapter/],
    ['a bucket that is not allowed', { name: 'a', source: { type: 's3', uri: 's3://other/a' } }, 403, /./],
  ] as const)('refuses %s', async (_, body, status, message) => {
    await folder('a', 1)
    const refused = await under.ask('POST', '/admin/adapters', body)
    expect([refused.status, refused.text]).toEqual([status, expect.stringMatching(message)])
    expect(Object.keys(refused.json as object)).toEqual(['error', 'error_type'])
  })

  test('takes an adapter of the hub at its commit, and writes its token nowhere', async () => {
    const at = await folder('hub', 3)
    const hub = await startHub({
      'acme/sql': { commits: { [firstCommit]: at }, refs: { main: firstCommit }, access: 'private', readers: ['hf_secret1'] },
    })
    const own = await startAdmin({ hubEndpoint: hub.endpoint })
    try {
      const body = (token: string) => ({ name: 'sql', source: { type: 'hub', id: 'acme/sql', token } })
      const refused = await own.ask('POST', '/admin/adapters', body('hf_wrong2'))
      expect([refused.status, refused.json]).toMatchObject([404, { error_type: 'adapter_not_found' }])
      const published = await own.ask('POST', '/admin/adapters', body('hf_secret1'))
      expect([published.status, published.json]).toMatchObject([
        201,
        { source: { type: 'hub', id: 'acme/sql', revision: firstCommit, asked: 'main' } },
      ])
      const told = [refused.text, published.text, (await own.ask('GET', '/admin/adapters/sql')).text, JSON.stringify(own.log)]
      for (const bytes of own.store.objects.values()) told.push(Buffer.from(bytes).toString('latin1'))
      for (const secret of ['hf_secret1', 'hf_wrong2']) expect(told.join('\n')).not.toContain(secret)
    } finally {
      await own.close()
    }
  })

  test('takes what the store has already', async () => {
    await folder('a', 1)
    const { digest } = (await publish('one', 'a')).json as { digest: string }
    const other = await under.ask('POST', '/admin/adapters', { name: 'two', source: { type: 'store', uri: `sha256:${digest}` } })
    expect([other.status, other.json]).toMatchObject([201, { name: 'two', digest }])
  })

  test('takes the chat template beside the files, and another template is another version', async () => {
    const at = await folder('a', 1)
    await publish('a', 'a')
    await cp(at, path.join(root, 'b'), { recursive: true })
    await writeFile(path.join(root, 'b/chat_template.jinja'), '{{ messages }}')
    expect((await publish('a', 'b')).json).toMatchObject({ version: 2, has_chat_template: true })
  })
})

describe('an upload', () => {
  const put = (name: string, form: FormData) => under.ask('PUT', `/admin/adapters/${name}/upload`, form)

  test('as a form publishes both files with what its fields wish', async () => {
    const form = uploadForm(smallAdapter(1), { alias: 'next,latest', pin: 'true', metadata: '{"run":"18"}', expected: '0' })
    form.set('chat_template.jinja', new Blob(['{{ messages }}']), 'chat_template.jinja')
    const published = await put('acme%2Fa', form)
    expect([published.status, published.json]).toMatchObject([
      201,
      {
        ...{ name: 'acme/a', version: 1, aliases: ['next', 'latest'], pinned: true, has_chat_template: true },
        ...{ metadata: { run: '18' }, source: { type: 'upload' } },
      },
    ])
    expect((await put('acme%2Fa', form)).status).toBe(200)
  })

  test('finds its files by their names too, as a list of files has them', async () => {
    const { config, weights } = smallAdapter(1)
    const form = new FormData()
    form.append('files', new Blob([new Uint8Array(weights)]), 'adapter_model.safetensors')
    form.append('files', new Blob([new Uint8Array(config)]), 'adapter_config.json')
    expect((await put('a', form)).status).toBe(201)
  })

  test.each([
    ['without the weights', () => without('adapter_model.safetensors'), 422, /`adapter_model.safetensors` is missing/],
    ['with a part that it does not know', () => uploadForm(smallAdapter(1), { pni: 'true' }), 422, /pni.* is not a part/],
    ['with a field that is none', () => uploadForm(smallAdapter(1), { pin: 'maybe' }), 422, /`pin`/],
    ['with metadata that is no JSON', () => uploadForm(smallAdapter(1), { metadata: '{' }), 422, /`metadata`/],
    ['with a part twice', () => twice(), 422, /twice/],
    [
      'with a config that is none',
      () => uploadForm({ ...smallAdapter(1), config: Buffer.from('{') }),
      422,
      /adapter_config.json/,
    ],
    [
      'with a config that is too long',
      () => uploadForm({ ...smallAdapter(1), config: Buffer.alloc(2 ** 21) }),
      413,
      /adapter_config.json/,
    ],
  ] as const)('%s is refused', async (_, form, status, message) => {
    const refused = await put('a', form())
    expect([refused.status, refused.text]).toEqual([status, expect.stringMatching(message)])
    expect([...under.store.objects.keys()].filter((key) => key.startsWith('catalogue/'))).toEqual([])
  })

  test.each(['/admin/adapters/a/upload', '/admin/adapters/a/upload/adapter_config.json'])(
    'to %s whose length is too much is 413 before it is read',
    async (route) => {
      const headers = { 'content-type': 'multipart/form-data; boundary=x', 'content-length': String(2 ** 31) }
      const refused = await new Promise<number>((resolve, reject) => {
        import('node:http').then(({ request }) => {
          const sent = request(under.url + route, { method: 'PUT', headers }, (answer) => resolve(answer.statusCode ?? 0))
          sent.on('error', reject)
          sent.flushHeaders()
        }, reject)
      })
      expect(refused).toBe(413)
    },
  )

  test('of another type, or compressed, is 415', async () => {
    const json = await under.ask('PUT', '/admin/adapters/a/upload', { a: 1 })
    expect(json.status).toBe(415)
    const zipped = await under.ask('PUT', '/admin/adapters/a/upload', Buffer.from('x'), {
      'content-type': 'multipart/form-data; boundary=x',
      'content-encoding': 'gzip',
    })
    expect(zipped.status).toBe(415)
  })

  function without(name: string): FormData {
    const form = uploadForm(smallAdapter(1))
    form.delete(name)
    return form
  }

  function twice(): FormData {
    const form = uploadForm(smallAdapter(1))
    form.append('adapter_config.json', new Blob(['{}']), 'adapter_config.json')
    return form
  }
})

describe('an upload file by file', () => {
  const { config, weights } = smallAdapter(1)
  const send = (name: string, file: string, bytes: Uint8Array) =>
    under.ask('PUT', `/admin/adapters/${name}/upload/${file}`, bytes, { 'content-type': 'application/octet-stream' })

  test('is published with its second file, and its session is over then', async () => {
    const { json } = await send('acme%2Fa', 'adapter_config.json', config)
    const { session, next } = json as { session: string; next: string }
    expect(next).toBe(`/admin/adapters/acme%2Fa/upload/adapter_model.safetensors?session=${session}`)
    const published = await under.ask('PUT', `${next}&alias=next&pin=true`, weights)
    expect([published.status, published.json]).toMatchObject([201, { name: 'acme/a', aliases: ['next'], pinned: true }])
    expect((await under.ask('PUT', next, weights)).status).toBe(404)
    expect([...under.store.objects.keys()].filter((key) => key.startsWith('uploads/'))).toEqual([])
  })

  test('wants the session of its own name', async () => {
    const { session } = (await send('a', 'adapter_config.json', config)).json as { session: string }
    for (const query of ['', '?session=x', `?session=${session}`]) {
      expect((await send('b', `adapter_model.safetensors${query}`, weights)).status).toBe(404)
    }
  })

  test('has two files and no other', async () => {
    expect((await send('a', 'adapter_model.bin', weights)).status).toBe(404)
  })
})
