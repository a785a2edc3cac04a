/** Bodies nearly right and wild over every admin route: no 500, no hang, and errors in one form. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AdminUnderTest, smallAdapter, startAdmin, uploadForm } from '../../support/admin-under-test.ts'
import { randomSeed } from '../../support/random-seed.ts'

const REQUESTS = 1500
let under: AdminUnderTest
beforeAll(async () => {
  under = await startAdmin()
  await under.ask('PUT', '/admin/adapters/a/upload', uploadForm(smallAdapter(1)))
})
afterAll(() => under.close())

const odd = fc.oneof(
  fc.constantFrom(
    null,
    true,
    0,
    -1,
    0.5,
    1,
    2 ** 31,
    2 ** 53,
    1e308,
    '',
    [],
    {},
    [''],
    'latest',
    'a@b',
    '../..',
    '__proto__',
    '\u0000',
    '\ud800',
  ),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.jsonValue({ maxDepth: 2 }),
)
const source = fc.oneof(
  odd,
  fc.record(
    { type: fc.constantFrom('hub', 's3', 'local', 'store', 'x'), id: odd, uri: odd, path: odd, revision: odd, token: odd },
    { requiredKeys: ['type'] },
  ),
)
const body = fc.record(
  {
    ...{
      name: fc.oneof(odd, fc.constant('a')),
      source,
      alias: odd,
      pin: odd,
      metadata: odd,
      expected: odd,
      version: fc.oneof(odd, fc.constant(1)),
    },
    ...{ share_percent: fc.oneof(odd, fc.constant(5)), tenant: odd, lora_name: odd, lora_path: odd, base: odd },
  },
  { requiredKeys: [] },
)
const segment = fc.oneof(
  fc.constantFrom('a', 'a', 'a', 'a', 'acme%2Fa', '..', '%2e%2e', '%', '%ff', '%00', 'a%2F..%2Fb', '__proto__', 'constructor'),
  fc.string({ unit: 'binary', maxLength: 8 }).map((text) => encodeURIComponent(text.toWellFormed())),
)
const route = fc.tuple(segment, segment).chain(([name, alias]) =>
  fc.constantFrom(
    ...([
      ['POST', '/admin/adapters'],
      ['GET', `/admin/adapters/${name}`],
      ['DELETE', `/admin/adapters/${name}x?version=${alias}`],
      ['PUT', `/admin/adapters/${name}/aliases/${alias}`],
      ['DELETE', `/admin/adapters/${name}/aliases/${alias}?expected=${name}`],
      ['PUT', `/admin/adapters/${name}/canary`],
      ['DELETE', `/admin/adapters/${name}/canary?alias=${alias}`],
      ['POST', `/admin/adapters/${name}/rollback`],
      ['POST', `/admin/adapters/${name}/pin`],
      ['POST', `/admin/adapters/${name}/unpin`],
      ['POST', `/admin/adapters/${name}/prefetch`],
      ['POST', `/admin/adapters/${name}/lift`],
      ['PUT', `/admin/adapters/${name}/upload`],
      ['PUT', `/admin/adapters/${name}/upload/${alias}?session=${alias}`],
      ['GET', `/admin/adapters?prefix=${name}&cursor=${alias}`],
      ['GET', `/admin/audit?cursor=${name}&limit=${alias}`],
      ['GET', `/admin/jobs?limit=${name}`],
      ['POST', '/v1/load_lora_adapter'],
      ['POST', '/v1/unload_lora_adapter'],
      ['POST', '/load_lora_adapter'],
    ] as const),
  ),
)

test(`${REQUESTS} requests find no answer outside the contract`, async () => {
  const statuses = new Map<number, number>()
  await fc.assert(
    fc.asyncProperty(
      route,
      fc.oneof(
        { weight: 4, arbitrary: body },
        { weight: 1, arbitrary: odd },
        { weight: 2, arbitrary: fc.constantFrom({}, { version: 1 }) },
      ),
      async ([method, path], sent) => {
        const { status, json, text } = await under.ask(method, path, method === 'GET' ? undefined : sent)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        expect(status, `${method} ${path} ${text}`).toBeLessThan(500)
        if (status < 300) return
        if (path.startsWith('/admin')) expect(json, path).toEqual({ error: expect.any(String), error_type: expect.any(String) })
        // Nothing of a made-up token or of this machine's folders.
        expect(text).not.toMatch(/node_modules|at .*\.ts/)
      },
    ),
    {
      seed: randomSeed('fuzz of administration'),
      numRuns: REQUESTS,
      interruptAfterTimeLimit: 50_000,
      markInterruptAsFailure: true,
    },
  )
  // Some were right by chance, or nothing but refusals was tried.
  expect(statuses.get(200)).toBeGreaterThan(2)
  expect(under.log.filter(({ level }) => level === 'error')).toEqual([])
})
