import { connect, createServer } from 'node:net'
import { WatchedStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import {
  createProcessRunner,
  createWorker,
  nodeTimers,
  type Worker,
  type WorkerConfig,
  type WorkerDeps,
  type WorkerParts,
} from '@quiver/worker'
import { afterEach, describe, expect, it } from 'vitest'
import { registered, runRequest } from '../support/batch-harness.ts'
import { FakeAdapterCache, fakeDigest } from '../support/fake-adapter-cache.ts'
import { FakeEngine, fakeSpec, referenceTokens } from '../support/fake-engine.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { call, openRun } from '../support/run-client.ts'

const config: WorkerConfig = {
  model: 'fake-model',
  dtype: 'fp32',
  lora: 'standard',
  slots: 2,
  maxRank: 8,
  sequences: 4,
  totalTokens: 64,
  chunkTokens: 8,
  threads: 1,
  host: '127.0.0.1',
  port: 0,
  token: 'secret',
  cacheDir: '/nowhere',
  kernelsDir: '/nowhere',
  storeUrl: 'file:///nowhere',
  localRoots: [],
  s3Buckets: [],
  hub: {},
  python: 'python3',
  homeDir: '/nowhere',
  ramBytes: 0,
  diskBytes: 0,
}
const authorization = 'Bearer secret'

/** A worker whose model, engine and cache are fakes; everything between them and the socket is real. */
class Fixture {
  readonly engine = new FakeEngine({ sequences: 4, slots: 2, totalTokens: 64, chunkTokens: 8, neverEnds: true })
  readonly clock = { nowMs: () => performance.now() }
  readonly cache = new FakeAdapterCache({ memory: this.engine, clock: this.clock })
  readonly objects = new MemoryStore()
  readonly store = new WatchedStore(this.objects, { clock: this.clock })
  readonly modelOpening = Promise.withResolvers<void>()
  readonly stopping = new AbortController()
  isModelClosed = false
  readonly parts: WorkerParts = {
    openModel: async () => {
      await this.modelOpening.promise
      return {
        spec: fakeSpec,
        sha: 'f'.repeat(64),
        tokenizerFiles: { kind: 'json', tokenizer: {}, config: {} },
        weights: {
          has: () => false,
          read: () => Promise.reject(new Error('no weights')),
          close: async () => {
            this.isModelClosed = true
          },
        },
      }
    },
    createTokenizer: () => fakeTokenizer(),
    createEngine: async () => this.engine,
    chooseDevice: async ({ dtype }) => ({ dtype }),
    openRemote: () => Promise.reject(new Error('this worker has no server')),
    openStore: async () => this.store,
    createCache: async () => this.cache,
  }

  deps(parts: Partial<WorkerParts> = {}): WorkerDeps {
    let ids = 0
    return {
      clock: this.clock,
      timers: nodeTimers,
      wallClockMs: () => 0,
      log: () => {},
      drawSeed: () => 42n,
      uniqueId: () => `id-${ids++}`,
      onProgress: () => {},
      fetch,
      runProcess: createProcessRunner({}),
      signal: this.stopping.signal,
      fatal: (error) => expect.fail(String(error)),
      parts: { ...this.parts, ...parts },
    }
  }

  async start(): Promise<Worker> {
    this.modelOpening.resolve()
    return await createWorker(config, this.deps())
  }
}

let fixture = new Fixture()
let worker: Worker | undefined
const start = async () => {
  fixture = new Fixture()
  worker = await fixture.start()
  return worker
}

afterEach(async () => {
  await worker?.close()
  worker = undefined
  expect(fixture.engine.violations).toEqual([])
})

/** A port that nothing listens on now. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

describe('createWorker', () => {
  it('serves runs, its description and its state, and closes its model files', async () => {
    const { url, info } = await start()
    expect(fixture.isModelClosed).toBe(true)
    const answer = await openRun(url, runRequest({ inputs: 'abc', adapter: registered('a'), maxNewTokens: 6 }), { authorization })
    expect(await answer.over).toBe('complete')
    const tokens = answer.events.flatMap((event) => (event.type === 'token' ? [event.id] : []))
    expect(tokens).toEqual(referenceTokens(fakeTokenizer().encode('abc'), 6, { digest: fakeDigest('a'), neverEnds: true }))
    expect((await call(`${url}/v1/info`, { headers: { authorization } })).body).toEqual(info)
    expect(info).toMatchObject({
      model: { id: 'fake-model', family: 'llama', dtype: 'fp32' },
      limits: { sequences: 4, totalTokens: 64, inputTokens: 63, slots: 2, maxRank: 8, waiting: 1024 },
      layout: { hiddenSize: 8, layerCount: 1 },
    })
    const state = (await call(`${url}/v1/state`, { headers: { authorization } })).body
    expect(state).toMatchObject({
      running: 0,
      waiting: 0,
      admitted: 1,
      loads: 1,
      prefillRows: 3,
      decodeRows: 5,
      rows: 8,
      steps: 6,
    })
  })

  it('draws with the seed it is given, or with one it reports', async () => {
    const { url } = await start()
    const sampled = async (seed?: string) => {
      const sampling = { sample: true, temperature: 2, ...(seed === undefined ? {} : { seed }) }
      const answer = await openRun(url, runRequest({ sampling, maxNewTokens: 12 }), { authorization })
      await answer.over
      return answer.events.at(-1)
    }
    const drawn = await sampled()
    expect(drawn).toMatchObject({ type: 'done', seed: '42' })
    const again = await sampled('42')
    expect(again).toMatchObject({ generatedText: drawn?.type === 'done' ? drawn.generatedText : undefined })
    expect(await sampled('18446744073709551615')).toMatchObject({ type: 'done', seed: '18446744073709551615' })
    expect(await sampled('18446744073709551616')).toMatchObject({ type: 'error', code: 'invalid_parameters' })
  })

  it('O16 is ready while its store is down, and says that it is degraded until the store is back', async () => {
    fixture = new Fixture()
    const { objects, store } = fixture
    objects.head = () => Promise.reject(new ServingError('source_unavailable', 'the store failed', { reason: 'ECONNREFUSED' }))
    worker = await fixture.start()
    const health = () => call(`${worker?.url}/health`)
    expect(await health()).toMatchObject({ status: 200, body: { status: 'serving', degraded: 'the store failed' } })
    objects.head = async (key) => ({ key, size: 0, etag: '' })
    await store.probe()
    expect((await health()).body).toEqual({ status: 'serving' })
  })

  it('listens while it loads and says that it is starting', async () => {
    fixture = new Fixture()
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const starting = createWorker({ ...config, port }, fixture.deps())
    await fixture.engine.stepBegun(0)
    const health = async () => {
      // The first connection may come before the port is open.
      for (;;) {
        const answer = await call(`${url}/health`).catch(() => undefined)
        if (answer !== undefined) return answer
      }
    }
    expect(await health()).toMatchObject({ status: 503, body: { status: 'starting' } })
    expect(await call(`${url}/v1/info`, { headers: { authorization } })).toMatchObject({
      status: 503,
      body: { code: 'not_ready' },
    })
    const run = await call(`${url}/v1/run`, { method: 'POST', headers: { authorization }, body: JSON.stringify(runRequest()) })
    expect(run).toMatchObject({ status: 503, body: { code: 'not_ready' } })
    fixture.modelOpening.resolve()
    worker = await starting
    expect(await health()).toMatchObject({ status: 200 })
  })

  it('says that its port is taken before it loads anything', async () => {
    const { url } = await start()
    const port = Number(new URL(url).port)
    const opened: string[] = []
    const second = createWorker(
      { ...config, port },
      fixture.deps({
        openModel: async () => {
          opened.push('model')
          throw new Error('not reached')
        },
      }),
    )
    await expect(second).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining(`127.0.0.1:${port}`) })
    expect(opened).toEqual([])
  })

  it('leaves nothing open when a part cannot be made', async () => {
    fixture = new Fixture()
    fixture.modelOpening.resolve()
    const port = await freePort()
    const createCache = () => Promise.reject(new ServingError('internal', 'the cache folder cannot be written'))
    await expect(createWorker({ ...config, port }, fixture.deps({ createCache }))).rejects.toThrow(
      'the cache folder cannot be written',
    )
    expect(fixture.engine.isClosed).toBe(true)
    expect(fixture.isModelClosed).toBe(true)
    await expect(call(`http://127.0.0.1:${port}/health`)).rejects.toThrow()
  })

  it('undoes the rest when one part cannot be closed, and says what the start failed of', async () => {
    fixture = new Fixture()
    fixture.modelOpening.resolve()
    const port = await freePort()
    fixture.engine.close = () => Promise.reject(new Error('the engine hangs'))
    const createCache = () => Promise.reject(new ServingError('internal', 'the cache folder cannot be written'))
    const starting = createWorker({ ...config, port }, fixture.deps({ createCache }))
    await expect(starting).rejects.toThrow('the cache folder cannot be written')
    await expect(call(`http://127.0.0.1:${port}/health`)).rejects.toThrow()
  })

  it('stops starting when the start is called off', async () => {
    fixture = new Fixture()
    const starting = createWorker(config, fixture.deps())
    fixture.stopping.abort()
    fixture.modelOpening.resolve()
    await expect(starting).rejects.toMatchObject({ code: 'client_closed' })
    expect(fixture.isModelClosed).toBe(true)
  })

  it('drains: running runs finish, new ones are refused, health is 503', async () => {
    const running = await start()
    const long = await openRun(running.url, runRequest({ maxNewTokens: 50 }), { authorization })
    await long.seen('token')
    fixture.engine.holdSteps()
    const drained = running.drain()
    expect(await call(`${running.url}/health`)).toMatchObject({ status: 503, body: { status: 'draining' } })
    const late = await openRun(running.url, runRequest(), { authorization })
    await late.over
    expect(late.events).toMatchObject([{ type: 'error', code: 'draining' }])
    fixture.engine.releaseSteps()
    await drained
    expect(running.state()).toMatchObject({ running: 0, waiting: 0 })
    await long.over
    expect(long.events.at(-1)).toMatchObject({ type: 'done', generatedTokens: 50 })
  })

  it('closes at once: streams end with an error event, and everything is given back', async () => {
    const running = await start()
    fixture.engine.holdSteps()
    const runs = await Promise.all(
      ['a', 'b', 'c'].map((name) => openRun(running.url, runRequest({ adapter: registered(name) }), { authorization })),
    )
    for (const run of runs) await run.seen('accepted')
    fixture.engine.releaseSteps()
    await running.close()
    for (const run of runs) {
      expect(await run.over).toBe('complete')
      expect(['done', 'error']).toContain(run.events.at(-1)?.type)
    }
    expect(fixture.cache).toMatchObject({ leaseCount: 0, isClosed: true })
    expect(fixture.engine).toMatchObject({ isClosed: true, held: [] })
    const port = Number(new URL(running.url).port)
    const refused = await new Promise((resolve) => connect(port, '127.0.0.1').once('error', resolve).once('connect', resolve))
    expect(refused).toMatchObject({ code: 'ECONNREFUSED' })
  })
})
