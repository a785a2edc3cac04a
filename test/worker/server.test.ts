import { connect } from 'node:net'
import { limits } from '@quiver/protocol'
import { afterEach, describe, expect, it } from 'vitest'
import { AdapterService } from '../../packages/worker/src/adapter-service.ts'
import { EventFeed } from '../../packages/worker/src/event-feed.ts'
import { startServer, type WorkerServer } from '../../packages/worker/src/server.ts'
import { nodeTimers } from '../../packages/worker/src/timers.ts'
import { workerLoad } from '../../packages/worker/src/worker-load.ts'
import { BatchHarness, type HarnessOptions, registered, runRequest } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'
import { referenceTokens } from '../support/fake-engine.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'
import { type ClientRun, call, openRun } from '../support/run-client.ts'

let harness: BatchHarness
let server: WorkerServer
let feed: EventFeed

async function start(options: HarnessOptions & { token?: string; runBufferBytes?: number; manualTimers?: boolean } = {}) {
  const { token, runBufferBytes, manualTimers, ...rest } = options
  harness = new BatchHarness({ neverEnds: true, onChange: () => feed.loadChanged(), ...rest })
  const adapters = new AdapterService(harness.cache)
  const { loop, cache, service, clock } = harness
  const load = () => workerLoad({ loop, cache, isLeaving: service.isLeaving, resolving: service.resolving })
  feed = new EventFeed({ epoch: 'one', timers: manualTimers ? clock : nodeTimers, cache, load })
  server = await startServer({
    host: '127.0.0.1',
    port: 0,
    token,
    ...(runBufferBytes === undefined ? {} : { runBufferBytes }),
    timers: manualTimers ? harness.clock : nodeTimers,
    log: (_level, message) => harness.log.push(message),
    service: {
      health: () => harness.service.health(),
      state: () => harness.service.state(),
      start: (...run) => harness.service.start(...run),
      tokenize: (request) => harness.service.tokenize(request),
      adapters: (digest) => adapters.adapters(digest),
      order: (kind, order, signal) => adapters.order(kind, order, signal),
      info: () => {
        throw new Error('a bug in the worker')
      },
      events: () => feed,
      leave: () => harness.service.leave(),
    },
  })
  return { ...harness, url: server.url }
}

afterEach(async () => {
  harness.engine.releaseSteps()
  feed.close()
  await harness.loop.close()
  await server.close()
  expect(harness.engine.violations).toEqual([])
  expect(harness.engine.held).toEqual([])
  expect(harness.cache.leaseCount).toBe(0)
  expect(harness.fatal).toEqual([])
})

const run = (parts: Parameters<typeof runRequest>[0] = {}, headers = {}): Promise<ClientRun> =>
  openRun(server.url, runRequest(parts), headers)
const idsOf = (text: string) => fakeTokenizer().encode(text)
/** What happened on other sockets before this call has been noticed when it returns: events of sockets come in order. */
async function roundTrips(count = 3): Promise<void> {
  for (let index = 0; index < count; index++) await call(`${server.url}/v1/state`)
}

describe('POST /v1/run', () => {
  it('streams the events of a run, one JSON object a line', async () => {
    await start()
    const answer = await run({ inputs: 'hello', maxNewTokens: 3 })
    expect(await answer.over).toBe('complete')
    expect(answer.status).toBe(200)
    expect(answer.events.map(({ type }) => type)).toEqual(['accepted', 'token', 'token', 'token', 'done'])
    const tokens = answer.events.flatMap((event) => (event.type === 'token' ? [event.id] : []))
    expect(tokens).toEqual(referenceTokens(idsOf('hello'), 3, { neverEnds: true }))
  })

  it('sends each event when it comes, not when the run is over', async () => {
    const { engine } = await start()
    engine.holdSteps()
    const answer = await run({ maxNewTokens: 2 })
    await answer.seen('accepted')
    expect(answer.events).toHaveLength(1)
    engine.releaseSteps()
    await answer.over
  })

  it('answers whatever is wrong with a run as its one event', async () => {
    const { cache } = await start()
    cache.behave('none', { missing: true })
    const cases = [run({ inputs: 'x'.repeat(999) }), run({ adapter: registered('none') })]
    const codes = []
    for (const answer of await Promise.all(cases)) {
      expect([answer.status, await answer.over]).toEqual([200, 'complete'])
      codes.push(answer.events.map((event) => (event.type === 'error' ? event.code : event.type)))
    }
    expect(codes).toEqual([['invalid_parameters'], ['adapter_not_found']])
  })

  it('answers many runs at once, each with its own tokens', async () => {
    await start({ sequences: 8 })
    const texts = Array.from({ length: 40 }, (_, index) => `text ${index}`)
    const answers = await Promise.all(texts.map((inputs) => run({ inputs, maxNewTokens: 6 })))
    for (const [index, answer] of answers.entries()) {
      await answer.over
      const tokens = answer.events.flatMap((event) => (event.type === 'token' ? [event.id] : []))
      expect(tokens).toEqual(referenceTokens(idsOf(texts[index] ?? ''), 6, { neverEnds: true }))
    }
  })
})

describe('a client that leaves', () => {
  it('is out of the batch within two steps while it decodes and while its prompt is computed, and others go on', async () => {
    const { engine } = await start({ sequences: 3 })
    const stays = await run({ inputs: 's', maxNewTokens: 200 })
    const decodes = await run({ inputs: 'a', maxNewTokens: 200 })
    await decodes.seen('token', 2)
    engine.holdSteps()
    const prefills = await run({ inputs: 'x'.repeat(200), maxNewTokens: 5 })
    // The held step was planned before this prompt came: let two steps go by, in which its first chunks are computed.
    await engine.stepBegun(engine.steps.length)
    engine.releaseSteps()
    await engine.stepBegun(engine.steps.length + 2)
    engine.holdSteps()
    await prefills.seen('accepted')
    decodes.leave()
    prefills.leave()
    await roundTrips()
    const before = engine.steps.length
    engine.releaseSteps()
    await engine.stepBegun(before + 3)
    const later = engine.steps.slice(before).map(({ rows }) => [...new Set(rows.map(({ sequence }) => sequence))])
    expect(later.slice(0, 2).every((members) => members.length === 1 && members[0] === 1)).toBe(true)
    await stays.over
    expect(stays.events.at(-1)).toMatchObject({ type: 'done', generatedTokens: 200 })
    expect(harness.loop.state().finished).toMatchObject({ cancelled: 2, length: 1 })
  })

  it('is forgotten while it waits for a place, for its adapter, and while its adapter is looked up', async () => {
    const { cache, engine } = await start({ sequences: 1 })
    cache.behave('slow', { held: true })
    cache.behave('lost', { resolveHeld: true })
    const running = await run({ inputs: 's', maxNewTokens: 100 })
    await running.seen('token')
    engine.holdSteps()
    const waiting = await Promise.all([run(), run({ adapter: registered('slow') }), run({ adapter: registered('lost') })])
    await waiting[1]?.seen('accepted')
    expect(harness.service.state()).toMatchObject({ running: 1, waiting: 3 })
    for (const answer of waiting) answer.leave()
    await roundTrips()
    const before = engine.steps.length
    engine.releaseSteps()
    await engine.stepBegun(before + 2)
    expect(harness.service.state()).toMatchObject({ running: 1, waiting: 0, finished: { cancelled: 2 }, leases: { adapters: 0 } })
    await running.over
    cache.letGo('lost')
    cache.letGo('slow')
    await harness.turns()
  })

  it('is forgotten when the worker sleeps', async () => {
    const { cache } = await start()
    cache.behave('slow', { held: true })
    const answer = await run({ adapter: registered('slow') })
    await answer.seen('accepted')
    answer.leave()
    await roundTrips()
    expect(harness.service.state()).toMatchObject({ waiting: 0, leases: { adapters: 0 } })
    cache.letGo('slow')
  })

  it('is forgotten when it leaves without having sent its whole request', async () => {
    await start()
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
    socket.write('POST /v1/run HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"requestId"')
    await roundTrips()
    socket.destroy()
    await roundTrips()
    expect(harness.service.state()).toMatchObject({ waiting: 0, running: 0 })
    expect((await call(`${server.url}/health`)).status).toBe(200)
  })
})

describe('a client that does not read', () => {
  it('is cut off once too much waits for it, and nobody else notices', async () => {
    // 32 alternatives of 2 kB text: 2,000 tokens are far more than the kernel's socket buffers hold.
    await start({ totalTokens: 2048, runBufferBytes: 64 * 1024, pad: 'x'.repeat(2_000) })
    const lazy = await run({ inputs: 'a', maxNewTokens: 2_000, alternatives: 32 })
    await lazy.seen('token')
    lazy.stopReading()
    const reader = await run({ inputs: 'b', maxNewTokens: 300 })
    expect(await reader.over).toBe('complete')
    expect(reader.events.at(-1)).toMatchObject({ type: 'done', generatedTokens: 300 })
    const cut = (async () => {
      while (harness.service.state().finished.cancelled === 0) await roundTrips(1)
    })()
    await cut
    expect(harness.service.state()).toMatchObject({ running: 0, finished: { cancelled: 1, length: 1 } })
    lazy.resumeReading()
    expect(await lazy.over).toBe('cut')
    expect(lazy.events.some(({ type }) => type === 'done')).toBe(false)
  })

  // 20,000 prompt tokens with their log-probabilities are more than the whole buffer, and one event.
  it('is not cut off for one event that alone is larger than the buffer', async () => {
    await start({ runBufferBytes: 16 * 1024, pad: 'x'.repeat(2_000) })
    const client = await run({ inputs: 'a'.repeat(10), maxNewTokens: 1, prefillDetails: true })
    expect(await client.over).toBe('complete')
    expect(client.events.map(({ type }) => type)).toEqual(['accepted', 'prefill', 'token', 'done'])
  })

  it('has a while for the rest of a run that is over, and is then cut off', async () => {
    await start({ totalTokens: 2048, runBufferBytes: 2 ** 30, pad: 'x'.repeat(2_000), manualTimers: true })
    const lazy = await run({ inputs: 'a', maxNewTokens: 400, alternatives: 32 })
    lazy.stopReading()
    while (harness.service.state().finished.length === 0) await roundTrips(1)
    expect(harness.clock.pending).toBe(1)
    harness.clock.advance(limits.runFlushMs)
    lazy.resumeReading()
    expect(await lazy.over).toBe('cut')
    expect(harness.clock.pending).toBe(0)
  })
})

describe('everything but a run', () => {
  const post = (body: RequestInit['body'], headers: Record<string, string> = {}) =>
    call(`${server.url}/v1/run`, { method: 'POST', body: body ?? null, headers, ...({ duplex: 'half' } as object) })

  it('tokenises a text, and refuses one that would hold up everybody', async () => {
    await start()
    const tokenize = (text: string) =>
      call(`${server.url}/v1/tokenize`, { method: 'POST', body: JSON.stringify({ text, addSpecial: true }) })
    expect((await tokenize('ab')).body).toEqual({
      tokens: [
        { id: 2, text: 'a', start: 0, stop: 1 },
        { id: 3, text: 'b', start: 1, stop: 2 },
      ],
    })
    expect(await tokenize('x'.repeat(limits.tokenizeCharacters + 1))).toMatchObject({
      status: 422,
      body: { error: '`inputs` must have at most 262144 characters. Given: 262145' },
    })
  })

  it('refuses bodies that are no run requests with 400, and keeps the connection', async () => {
    await start()
    const valid = JSON.stringify(runRequest())
    const bodies = [
      '',
      '{',
      'null',
      '[]',
      '"x"',
      valid.slice(0, -1),
      '{}',
      valid.replace('"base"', '"other"'),
      Buffer.from('{"a":"\xff"}', 'latin1'),
    ]
    for (const body of bodies)
      expect(await post(body)).toMatchObject({ status: 400, body: { code: 'invalid_request', error: expect.any(String) } })
    expect((await post(valid.replace('"text":"hello"', '"text":""'))).body['error']).toMatch(/prompt/)
    const ignored = await openRun(server.url, { ...runRequest(), unknown: 1 } as never)
    expect(await ignored.over).toBe('complete')
  })

  it('refuses a body that is too long with 413 before the rest is read, with and without its length', async () => {
    await start()
    const big = 'x'.repeat(limits.runRequestBytes + 1)
    expect(await post(big)).toMatchObject({ status: 413, body: { code: 'too_large' } })
    let sent = 0
    const endless = new ReadableStream({
      pull(controller) {
        sent += 65_536
        controller.enqueue(new Uint8Array(65_536))
      },
    })
    const answer = await post(endless).catch((error: unknown) => error)
    if (!(answer instanceof Error)) expect(answer).toMatchObject({ status: 413 })
    expect(sent).toBeLessThan(limits.runRequestBytes * 8)
    expect((await call(`${server.url}/health`)).status).toBe(200)
  })

  it('refuses an encoded body with 415', async () => {
    await start()
    expect(await post('x', { 'content-encoding': 'gzip' })).toMatchObject({
      status: 415,
      body: { code: 'unsupported_media_type' },
    })
  })

  it('wants the token everywhere but at /health, and tells nothing of it', async () => {
    await start({ token: 'a-secret' })
    for (const [path, method] of [
      ['/v1/run', 'POST'],
      ['/v1/info', 'GET'],
      ['/v1/state', 'GET'],
      ['/v1/run', 'GET'],
      ['/other', 'GET'],
      ['/', 'DELETE'],
    ] as const) {
      for (const authorization of ['', 'Bearer', 'Bearer a-secre', 'Bearer a-secret2', 'a-secret', 'Basic a-secret']) {
        const answer = await call(server.url + path, { method, headers: authorization === '' ? {} : { authorization } })
        expect(answer).toMatchObject({ status: 401, body: { code: 'unauthenticated' } })
      }
    }
    expect((await call(`${server.url}/health`)).status).toBe(200)
    const answer = await run({}, { authorization: 'Bearer a-secret' })
    expect(await answer.over).toBe('complete')
  })

  it('answers unknown routes with 404 and wrong methods with 405 and the right one', async () => {
    await start()
    expect(await call(`${server.url}/v2/run`)).toMatchObject({ status: 404, body: { code: 'not_found' } })
    const wrong = await call(`${server.url}/v1/run`)
    expect(wrong).toMatchObject({ status: 405, body: { code: 'method_not_allowed' } })
    expect(wrong.headers.get('allow')).toBe('POST')
    expect((await call(`${server.url}/health`, { method: 'POST' })).status).toBe(405)
  })

  it('answers a bug with 500 that tells nothing, and logs it', async () => {
    await start()
    expect(await call(`${server.url}/v1/info`)).toMatchObject({
      status: 500,
      body: { error: 'internal error', code: 'internal' },
    })
    expect(harness.log).toContain('a request failed inside the worker')
  })

  it('is healthy only while a request would be served', async () => {
    const { engine, clock, service } = await start({ waitingLimit: 1 })
    const health = () => call(`${server.url}/health`)
    expect(await health()).toMatchObject({ status: 200, body: { status: 'serving' } })
    engine.holdSteps()
    const answer = await run({ maxNewTokens: 1 })
    await engine.stepBegun(1)
    clock.advance(limits.stepAgeMs + 1)
    expect(await health()).toMatchObject({ status: 503, body: { status: 'stalled' } })
    engine.releaseSteps()
    await answer.over
    expect((await health()).status).toBe(200)
    await service.drain()
    expect(await health()).toMatchObject({ status: 503, body: { status: 'draining' } })
    const refused = await run()
    await refused.over
    expect(refused.events).toEqual([{ type: 'error', code: 'draining', message: expect.any(String) }])
  })
})

describe('GET /v1/events', () => {
  it('is a stream of lines that begins with a snapshot and goes on until the gateway leaves', async () => {
    await start()
    const stream = await fetch(`${server.url}/v1/events`)
    expect(stream.headers.get('content-type')).toBe('application/x-ndjson')
    const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader()
    const first = await reader?.read()
    expect(JSON.parse(first?.value ?? '')).toMatchObject({ type: 'snapshot', epoch: 'one', sequence: 0 })
    await (await run()).over
    expect(JSON.parse((await reader?.read())?.value?.split('\n')[0] ?? '')).toMatchObject({ type: 'delta', sequence: 1 })
    await reader?.cancel()
  })

  it('cuts off a gateway that takes nothing, which keeps nobody else from hearing', async () => {
    await start()
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
    socket.pause()
    socket.write('GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n')
    await roundTrips()
    const gone = new Promise((resolve) => socket.once('close', resolve))
    const digests = Array.from({ length: 4_000 }, (_, index) => fakeDigest(String(index)))
    for (let round = 0; round < 40; round++) {
      for (const listener of harness.cache.presenceListeners) for (const digest of digests) listener(digest)
      feed.flush()
    }
    socket.resume()
    await gone
    const other = await fetch(`${server.url}/v1/events`)
    expect(other.status).toBe(200)
    await other.body?.cancel()
  })

  it('POST /v1/drain tells who listens to send nothing more', async () => {
    await start()
    const stream = await fetch(`${server.url}/v1/events`)
    const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader()
    await reader?.read()
    expect((await call(`${server.url}/v1/drain`, { method: 'POST' })).body).toMatchObject({ status: 'leaving' })
    feed.loadChanged()
    expect(JSON.parse((await reader?.read())?.value?.split('\n')[0] ?? '')).toMatchObject({ load: { state: 'draining' } })
    await reader?.cancel()
  })
})
