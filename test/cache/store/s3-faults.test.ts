/** What an S3 server, and the way to it, can do wrong to a read or a write. Between the two stands a proxy that does it. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { S3Store, S3StoreOptions } from '@quiver/cache/store'
import type { ServingError } from '@quiver/protocol'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Fault, FaultProxy, type ProxiedAnswer, type ProxiedRequest } from '../../support/fault-proxy.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'
import { refusal } from '../../support/refusal.ts'
import { s3StoreAt } from '../../support/s3-stores.ts'
import { freshFolder } from '../../support/shared-s3.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const read = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const slowDown: Fault = {
  kind: 'answer',
  status: 503,
  headers: { 'content-type': 'application/xml' },
  body: Buffer.from('<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'),
}
const refused = (status: number, code: string): Fault => ({
  ...slowDown,
  kind: 'answer',
  status,
  body: Buffer.from(`<Error><Code>${code}</Code><Message>no</Message></Error>`),
})
/** Short enough for a test, long enough for a busy machine. */
const quick: S3StoreOptions = {
  retry: { attempts: 5, budgetMs: 20_000, firstPauseMs: 1, longestPauseMs: 4 },
  time: { connectMs: 3_000, answerMs: 10_000, windowMs: 5_000, bytesPerWindow: 1 },
}

interface Faulty {
  readonly proxy: FaultProxy
  /** Through the proxy. */
  readonly store: S3Store
  /** Another one, which has not failed yet. */
  readonly open: () => S3Store
  /** Through the proxy and without a prefix, for answers that the test makes up. */
  readonly bare: S3Store
  /** Past it. */
  readonly direct: S3Store
}

async function faulty(options: S3StoreOptions = {}): Promise<Faulty> {
  const folder = await freshFolder()
  const proxy = await FaultProxy.start(folder.endpoint)
  const open = () => s3StoreAt({ ...folder, endpoint: proxy.url }, { ...quick, ...options })
  const bare = s3StoreAt({ ...folder, prefix: '', endpoint: proxy.url }, quick)
  return { proxy, open, store: open(), bare, direct: s3StoreAt(folder) }
}

/** Spoils the first so many requests of a method and passes the rest on. */
function firstly(method: string, faults: readonly Fault[]): (request: ProxiedRequest) => Fault | undefined {
  const left = [...faults]
  return (request) => (request.method === method ? left.shift() : undefined)
}

const always = (fault: Fault) => () => fault
const changed = (change: (answer: ProxiedAnswer) => Partial<ProxiedAnswer>): Fault => ({
  kind: 'change',
  change: (answer) => ({ ...answer, ...change(answer) }),
})
const withHeaders = (headers: Record<string, string>): Fault =>
  changed((answer) => ({ headers: { ...answer.headers, ...headers } }))
const outcome = ({ code, context }: ServingError) => [code, context['attempts'], context['reason']]

describe('a read', () => {
  it('O01 of an object that is not there is one request', async () => {
    const { proxy, store } = await faulty()
    expect((await refusal(() => store.get('k'))).code).toBe('not_found')
    expect(proxy.requests).toHaveLength(1)
  })

  it('O02 that is refused is not repeated', async () => {
    const { proxy, store } = await faulty()
    proxy.spoil = always(refused(403, 'AccessDenied'))
    expect(outcome(await refusal(() => store.get('k')))).toEqual(['source_unavailable', 1, 'AccessDenied'])
    expect(proxy.requests).toHaveLength(1)
  })

  it.each([
    ['SlowDown', slowDown],
    ['500 without a word', { kind: 'answer', status: 500 }],
    ['503 that is no XML', { kind: 'answer', status: 503, body: Buffer.from('<html>busy') }],
    ['a connection that breaks', { kind: 'cut', at: 'request' }],
  ] satisfies [string, Fault][])('O03 survives %s four times, and gives up at the fifth', async (_, fault) => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', text('v'))
    proxy.spoil = firstly('GET', [fault, fault, fault, fault])
    expect(read((await store.get('k')).bytes)).toBe('v')
    proxy.spoil = always(fault)
    const error = await refusal(() => store.get('k'))
    expect([error.code, error.context['attempts']]).toEqual(['source_unavailable', 5])
    expect(proxy.requests).toHaveLength(10)
  })

  it('O03 of many at a store that is down draws on one purse, so that they do not storm it', async () => {
    const { proxy, store } = await faulty()
    proxy.spoil = always(slowDown)
    const reads = Array.from({ length: 100 }, (_, at) => refusal(() => store.get(`k${at}`)))
    for (const error of await Promise.all(reads)) expect(error.code).toBe('source_unavailable')
    expect(proxy.requests.length).toBeLessThanOrEqual(150)
  })

  it('O04 that is cut at any byte goes on from there under the same etag, and is whole', async () => {
    const seed = randomSeed('s3-faults')
    const { proxy, open, direct } = await faulty()
    const bytes = randomBytes(3_000)
    const { etag } = await direct.put('k', bytes)
    const random = randomFrom(seed)
    const cuts = [0, 1, bytes.length - 1, ...Array.from({ length: 60 }, () => Math.floor(random() * bytes.length))]
    for (const at of cuts) {
      const before = proxy.requests.length
      proxy.spoil = firstly('GET', [{ kind: 'cut', at }])
      const object = await open().get('k')
      expect(Buffer.compare(object.bytes, bytes), `cut at ${at}`).toBe(0)
      const [, second, third] = proxy.requests.slice(before)
      expect(third).toBeUndefined()
      if (at > 0) expect([second?.headers['range'], second?.headers['if-match']]).toEqual([`bytes=${at}-2999`, etag])
    }
  })

  it('O04 of a part that is cut again and again is that part', async () => {
    const { proxy, store, direct } = await faulty()
    const bytes = randomBytes(3_000)
    await direct.put('k', bytes)
    proxy.spoil = firstly('GET', [
      { kind: 'cut', at: 100 },
      { kind: 'cut', at: 'answer' },
      { kind: 'cut', at: 0 },
      { kind: 'cut', at: 100 },
    ])
    const part = await store.get('k', { range: { start: 1_000, end: 2_000 } })
    expect(Buffer.compare(part.bytes, bytes.subarray(1_000, 2_000))).toBe(0)
    expect(proxy.requests.map(({ headers }) => headers['range'])).toEqual([
      'bytes=1000-1999',
      ...Array(3).fill('bytes=1100-1999'),
      'bytes=1200-1999',
    ])
  })

  it('O04 that gains little with every attempt ends, with nothing', async () => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', randomBytes(3_000))
    proxy.spoil = always({ kind: 'cut', at: 10 })
    expect((await refusal(() => store.get('k'))).code).toBe('source_unavailable')
    expect(proxy.requests).toHaveLength(5)
  })

  it('O05 of an object that is replaced while it is read begins anew, and never mixes two versions', async () => {
    const { proxy, store, direct } = await faulty()
    const [first, second] = [Buffer.alloc(3_000, 'a'), Buffer.alloc(3_000, 'b')]
    await direct.put('k', first)
    proxy.spoil = async ({ number }) => {
      if (number === 1) return { kind: 'cut', at: 1_500 }
      if (number === 2) await direct.put('k', second)
      return undefined
    }
    expect(Buffer.compare((await store.get('k')).bytes, second)).toBe(0)
    expect(proxy.requests).toHaveLength(3)
  })

  it('O05 of an object that is replaced again and again is a conflict', async () => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', Buffer.alloc(3_000, '0'))
    proxy.spoil = async ({ number, headers }) => {
      if (headers['range'] !== undefined) await direct.put('k', Buffer.alloc(3_000, String(number)))
      return { kind: 'cut', at: 1_500 }
    }
    expect((await refusal(() => store.get('k'))).code).toBe('conflict')
    expect(proxy.requests).toHaveLength(4)
  })

  it('O05 under a condition is a conflict at once, also where the server forgets the condition', async () => {
    const { proxy, store, direct } = await faulty()
    const { etag } = await direct.put('k', Buffer.alloc(3_000, 'a'))
    proxy.spoil = async ({ number }) => {
      if (number === 1) return { kind: 'cut', at: 1_500 }
      await direct.put('k', Buffer.alloc(3_000, 'b'))
      return undefined
    }
    expect((await refusal(() => store.get('k', { ifMatch: etag }))).code).toBe('conflict')
    proxy.spoil = always(withHeaders({ etag: '"another"' }))
    const now = (await direct.head('k')).etag
    expect((await refusal(() => store.get('k', { ifMatch: now, range: { start: 0, end: 9 } }))).code).toBe('conflict')
  })

  it('O05 whose etag changes between its parts begins anew although the server did not mind', async () => {
    const { proxy, store, direct } = await faulty()
    const bytes = randomBytes(3_000)
    await direct.put('k', bytes)
    proxy.spoil = ({ number }) =>
      number === 1 ? { kind: 'cut', at: 1_500 } : number === 2 ? withHeaders({ etag: '"x"' }) : undefined
    expect(Buffer.compare((await store.get('k')).bytes, bytes)).toBe(0)
    expect(proxy.requests.map(({ headers }) => headers['range'])).toEqual([undefined, 'bytes=1500-2999', undefined])
  })

  const half = changed(({ body, headers }) => ({
    headers: { ...headers, 'content-length': String(body.length) },
    body: body.subarray(0, body.length / 2),
  }))
  const wrongWhole: [string, Fault, string][] = [
    ['a body shorter than its length', half, ''],
    [
      'too small a length',
      changed(({ body, headers }) => ({
        body: body.subarray(1),
        headers: { ...headers, 'content-length': String(body.length - 1) },
      })),
      '',
    ],
    ['no etag', changed(({ headers: { etag: _, ...headers } }) => ({ headers })), 'an answer without an etag'],
    ['206', changed(() => ({ status: 206 })), 'status 206 for a whole object'],
    [
      'bytes that are not those of the checksum',
      changed(({ body }) => ({ body: Buffer.from(body).fill(body[7] === 0 ? 1 : 0, 7, 8) })),
      '',
    ],
  ]
  const wrongPart: [string, Fault, string][] = [
    ['200 for 206', changed(() => ({ status: 200 })), 'status 200 for a part of an object'],
    ['another range', withHeaders({ 'content-range': 'bytes 0-99/3000' }), 'another part than was asked for'],
    [
      'a range beyond what was asked',
      withHeaders({ 'content-range': 'bytes 1000-2999/3000' }),
      'another part than was asked for',
    ],
    ['a range that is none', withHeaders({ 'content-range': 'bytes */3000' }), 'another part than was asked for'],
    [
      'an object that is smaller than its part',
      withHeaders({ 'content-range': 'bytes 1000-1999/1500' }),
      'another part than was asked for',
    ],
    ['a body shorter than its length', half, ''],
  ]

  it.each([
    ...wrongWhole.map(([what, fault]) => ['whole', what, fault] as const),
    ...wrongPart.map(([what, fault]) => ['part', what, fault] as const),
  ])('O06 of a %s object that is answered with %s is repeated, and right', async (which, _, fault) => {
    const { proxy, store, direct } = await faulty()
    const bytes = randomBytes(3_000)
    await direct.put('k', bytes)
    proxy.spoil = firstly('GET', [fault])
    const range = which === 'part' ? { start: 1_000, end: 2_000 } : { start: 0, end: 3_000 }
    const object = await store.get('k', which === 'part' ? { range } : {})
    expect(Buffer.compare(object.bytes, bytes.subarray(range.start, range.end))).toBe(0)
    expect(proxy.requests).toHaveLength(2)
  })

  it.each([
    ...wrongWhole.map(([what, fault, reason]) => ['whole', what, fault, reason] as const),
    ...wrongPart.map(([what, fault, reason]) => ['part', what, fault, reason] as const),
  ])('O06 of a %s object that is always answered with %s fails after five attempts', async (which, _, fault, reason) => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', randomBytes(3_000))
    proxy.spoil = always(fault)
    const error = await refusal(() => store.get('k', which === 'part' ? { range: { start: 1_000, end: 2_000 } } : {}))
    expect([error.code, error.context['attempts']]).toEqual(['source_unavailable', 5])
    if (reason !== '') expect(error.context['reason']).toBe(reason)
  })

  it('O06 takes the bytes that were announced and not what follows them', async () => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', text('0123456789'))
    proxy.spoil = always(
      changed(({ body, headers }) => ({
        headers: { ...headers, 'content-length': '10' },
        body: Buffer.concat([body, Buffer.from('more')]),
      })),
    )
    expect(read((await store.get('k')).bytes)).toBe('0123456789')
  })

  it('O06 of more than its reader allows is refused before a byte of it is taken', async () => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', text('0123456789'))
    proxy.spoil = always({ kind: 'stall', at: 0 })
    expect((await refusal(() => store.get('k', { maxBytes: 9 }))).code).toBe('too_large')
    proxy.spoil = always(withHeaders({ 'content-length': String(2 ** 50) }))
    expect((await refusal(() => store.get('k'))).code).toBe('too_large')
  })

  const impatient = { connectMs: 1_000, answerMs: 10_000, windowMs: 100, bytesPerWindow: 1_000 }

  it.each([
    ['comes byte by byte', { kind: 'drip', everyMs: 10 }],
    ['stops in the middle', { kind: 'stall', at: 1_500 }],
  ] satisfies [string, Fault][])('O08 that %s is left, and goes on elsewhere', async (_, fault) => {
    const { proxy, store, direct } = await faulty({ time: impatient })
    const bytes = randomBytes(3_000)
    await direct.put('k', bytes)
    proxy.spoil = firstly('GET', [fault])
    expect(Buffer.compare((await store.get('k')).bytes, bytes)).toBe(0)
    expect(proxy.requests).toHaveLength(2)
  })

  it('O08 that is never answered fails within its time, and says so', async () => {
    const { proxy, store } = await faulty({
      time: { ...impatient, answerMs: 50 },
      retry: { attempts: 2, budgetMs: 10_000, firstPauseMs: 1, longestPauseMs: 1 },
    })
    proxy.spoil = always({ kind: 'stall', at: 'answer' })
    const error = await refusal(() => store.get('k'))
    expect([error.code, error.context['attempts']]).toEqual(['source_unavailable', 2])
  })

  it('O08 leaves no connection and no timer behind when its reader leaves a stalled body', async () => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', randomBytes(3_000))
    proxy.spoil = always({ kind: 'stall', at: 1_500 })
    const leaving = new AbortController()
    const reading = refusal(() => store.get('k', { signal: leaving.signal }))
    await expect.poll(() => proxy.connections).toBe(1)
    leaving.abort()
    expect((await reading).code).toBe('client_closed')
    await expect.poll(() => proxy.connections).toBe(0)
  })

  it.each([301, 302, 303, 307, 308])('O09 that is answered %i goes to no other host', async (status) => {
    let visits = 0
    const elsewhere = createServer((_, response) => {
      visits += 1
      response.end('stolen')
    })
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void elsewhere.close())
    const { port } = elsewhere.address() as { port: number }
    const { proxy, store } = await faulty()
    const location = `http://127.0.0.1:${port}/stolen`
    proxy.spoil = always({
      kind: 'answer',
      status,
      headers: { location, 'x-amz-bucket-region': 'eu-west-1' },
      body: Buffer.from(
        `<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1:${port}</Endpoint><Message>go</Message></Error>`,
      ),
    })
    for (const attempt of [() => store.get('k'), () => store.head('k'), () => store.put('k', text('v'))]) {
      const error = await refusal(attempt)
      expect(error.code).toBe('source_unavailable')
      expect(error.message).toContain('with another address: check its endpoint and region')
      expect(error.message).not.toContain(String(port))
    }
    expect(visits).toBe(0)
    expect(proxy.requests).toHaveLength(3)
  })

  it('O10 of a body that the way has compressed is refused, and nothing is unpacked', async () => {
    const { proxy, store, direct } = await faulty()
    await direct.put('k', text('0123456789'))
    proxy.spoil = always(withHeaders({ 'content-encoding': 'gzip' }))
    const error = await refusal(() => store.get('k'))
    expect([error.code, error.message]).toEqual(['source_unavailable', 'object k is stored as "gzip": publish it uncompressed'])
    expect(proxy.requests).toHaveLength(1)
  })
})

describe('credentials', () => {
  it('O15 that expire in the middle of a download are renewed once, and it goes on', async () => {
    const folder = await freshFolder()
    const proxy = await FaultProxy.start(folder.endpoint)
    const bytes = randomBytes(3_000)
    await s3StoreAt(folder).put('k', bytes)
    const keys = [folder.reader, folder.writer]
    const credentials = async () => keys.shift() ?? expect.fail('asked for a third time')
    const store = s3StoreAt({ ...folder, endpoint: proxy.url }, { ...quick, credentials })
    const isOld = ({ headers }: ProxiedRequest) => headers['authorization']?.includes(folder.reader.accessKeyId) === true
    proxy.spoil = (request) =>
      request.number === 1 ? { kind: 'cut', at: 1_500 } : isOld(request) ? refused(400, 'ExpiredToken') : undefined
    expect(Buffer.compare((await store.get('k')).bytes, bytes)).toBe(0)
    expect(proxy.requests.map((request) => [isOld(request), request.headers['range']])).toEqual([
      [true, undefined],
      [true, 'bytes=1500-2999'],
      [false, 'bytes=1500-2999'],
    ])
  })

  it('O15 that stay expired are told as that, after one renewal', async () => {
    const { proxy, store } = await faulty()
    proxy.spoil = always(refused(400, 'ExpiredToken'))
    expect((await refusal(() => store.get('k'))).message).toBe('the credentials of the object store have expired')
    expect(proxy.requests).toHaveLength(2)
  })

  it('O02 that are nowhere to be found are told as that, and nothing is sent', async () => {
    const { proxy, store } = await faulty({
      credentials: () => Promise.reject(Object.assign(new Error('none'), { name: 'CredentialsProviderError' })),
    })
    expect((await refusal(() => store.get('k'))).message).toMatch(
      /^no credentials for the object store were found: set AWS_ACCESS_KEY_ID/,
    )
    expect(proxy.requests).toHaveLength(0)
  })
})

describe('a write', () => {
  it('O03 survives a busy server, and its object is whole', async () => {
    const { proxy, store, direct } = await faulty()
    proxy.spoil = firstly('PUT', [slowDown, { kind: 'cut', at: 'request' }, { kind: 'cut', at: 'answer' }])
    const { etag } = await store.put('k', text('v'))
    expect(await direct.head('k')).toEqual({ key: 'k', size: 1, etag })
  })

  it('O04 under a condition whose answer is lost was made once, and is not taken for a lost race', async () => {
    const { proxy, store, direct } = await faulty()
    proxy.spoil = firstly('PUT', [{ kind: 'cut', at: 'answer' }])
    const first = await store.put('k', text('1'), { ifNoneMatch: '*' })
    proxy.spoil = firstly('PUT', [{ kind: 'cut', at: 'answer' }])
    const second = await store.put('k', text('2'), { ifMatch: first.etag })
    expect([read((await direct.get('k')).bytes), (await direct.head('k')).etag]).toEqual(['2', second.etag])
  })

  it('O04 under a condition that loses a race after a lost request is a conflict', async () => {
    const { proxy, store, direct } = await faulty()
    proxy.spoil = async ({ number }) => {
      if (number !== 1) return undefined
      await direct.put('k', text('theirs'))
      return { kind: 'cut', at: 'request' }
    }
    expect((await refusal(() => store.put('k', text('ours'), { ifNoneMatch: '*' }))).code).toBe('conflict')
    expect(read((await direct.get('k')).bytes)).toBe('theirs')
  })

  const MIB = 2 ** 20
  const parts = { sizes: { wholeBytes: 6 * MIB, partBytes: 5 * MIB } }
  const isPart = ({ method, path }: ProxiedRequest) => method === 'PUT' && path.includes('partNumber=2')

  it('O04 in parts repeats the part that broke, and its lost end, and is whole', async () => {
    const { proxy, store, direct } = await faulty(parts)
    const bytes = randomBytes(11 * MIB)
    let [brokenPart, lostEnd] = [false, false]
    proxy.spoil = (request) => {
      if (isPart(request) && !brokenPart) {
        brokenPart = true
        return { kind: 'cut', at: 'request' }
      }
      if (request.method === 'POST' && request.path.includes('uploadId=') && !lostEnd) {
        lostEnd = true
        return { kind: 'cut', at: 'answer' }
      }
      return undefined
    }
    await store.put('k', bytes, { ifNoneMatch: '*' })
    expect([brokenPart, lostEnd]).toEqual([true, true])
    expect(Buffer.compare((await direct.get('k')).bytes, bytes)).toBe(0)
  })

  it('O04 in parts that cannot be finished is called off: no object, no parts', async () => {
    const { proxy, store, direct } = await faulty(parts)
    proxy.spoil = (request) => (isPart(request) ? slowDown : undefined)
    const error = await refusal(() => store.put('k', randomBytes(11 * MIB)))
    expect(error.code).toBe('source_unavailable')
    expect((await refusal(() => direct.head('k'))).code).toBe('not_found')
    expect(proxy.requests.filter(({ method, path }) => method === 'DELETE' && path.includes('uploadId='))).toHaveLength(1)
  })
})

describe('a listing', () => {
  const page = (from: number, count: number, next: string | undefined): Fault => ({
    kind: 'answer',
    status: 200,
    headers: { 'content-type': 'application/xml' },
    body: Buffer.from(
      `<?xml version="1.0"?><ListBucketResult><IsTruncated>${next !== undefined}</IsTruncated>${Array.from(
        { length: count },
        (_, at) => `<Contents><Key>k${String(from + at).padStart(8, '0')}</Key><Size>1</Size><ETag>"e"</ETag></Contents>`,
      ).join('')}${next === undefined ? '' : `<NextContinuationToken>${next}</NextContinuationToken>`}</ListBucketResult>`,
    ),
  })

  it('O14 of a million keys is asked for page by page, as far as it is read', async () => {
    const { proxy, bare: store } = await faulty()
    proxy.spoil = ({ number }) => page(number * 1_000, 1_000, number < 1_000 ? `t${number}` : undefined)
    let seen = 0
    for await (const { key } of store.list('')) {
      if (!key.startsWith('k')) expect.fail(key)
      if (++seen === 2_500) break
    }
    expect(proxy.requests).toHaveLength(3)
  })

  it.each([
    ['repeats itself', page(0, 3, 'again')],
    ['goes on with nothing', page(0, 0, 'next')],
    [
      'breaks off',
      changed(() => ({ body: Buffer.from('<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>') })),
    ],
    [
      'has keys that were not asked for',
      changed(() => ({
        body: Buffer.from('<ListBucketResult><Contents><Key>x</Key><Size>1</Size><ETag>"e"</ETag></Contents></ListBucketResult>'),
      })),
    ],
  ])('O14 that %s ends in an error, not in a circle', async (_, fault) => {
    const { proxy, bare: store } = await faulty()
    proxy.spoil = always(fault)
    const error = await refusal(async () => {
      for await (const { key } of store.list('k')) expect(key).toMatch(/^k/)
    })
    expect(error.code).toBe('source_unavailable')
    expect(proxy.requests.length).toBeLessThanOrEqual(6)
  })

  it('O03 survives a busy server in the middle', async () => {
    const { proxy, store, direct } = await faulty({ pageKeys: 2 })
    for (const key of ['a', 'b', 'c', 'd', 'e']) await direct.put(key, text(key))
    proxy.spoil = ({ number }) => (number % 2 === 0 ? slowDown : undefined)
    const keys: string[] = []
    for await (const { key } of store.list('')) keys.push(key)
    expect(keys).toEqual(['a', 'b', 'c', 'd', 'e'])
  })
})
