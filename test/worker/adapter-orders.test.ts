/** Orders about adapters over HTTP, with the real cache behind them. */
import { parseAdapterDigest } from '@quiver/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AdapterService } from '../../packages/worker/src/adapter-service.ts'
import { startServer, type WorkerServer } from '../../packages/worker/src/server.ts'
import { nodeTimers } from '../../packages/worker/src/timers.ts'
import { type CacheUnderTest, cacheUnderTest } from '../support/cache-under-test.ts'
import { call } from '../support/run-client.ts'

let under: CacheUnderTest
let server: WorkerServer

beforeEach(async () => {
  under = await cacheUnderTest()
  const adapters = new AdapterService(under.cache)
  const none = (): never => {
    throw new Error('not asked for here')
  }
  server = await startServer({
    host: '127.0.0.1',
    port: 0,
    timers: nodeTimers,
    log: () => {},
    service: {
      health: () => ({ status: 'serving' }),
      info: none,
      state: none,
      start: none,
      events: none,
      leave: none,
      tokenize: none,
      adapters: (digest) => adapters.adapters(digest),
      order: (...order) => adapters.order(...order),
    },
  })
})
afterEach(() => server.close())

const ref = (digest: string, name = 'x') => ({ kind: 'registered', name, digest })
const order = (kind: string, adapter: object, signal?: AbortSignal) =>
  call(`${server.url}/v1/adapters/${kind}`, { method: 'POST', body: JSON.stringify({ adapter }), ...(signal ? { signal } : {}) })
const report = (digest = '') => call(`${server.url}/v1/adapters${digest && `?digest=${digest}`}`)

describe('an order about an adapter', () => {
  it('to prefetch is answered when the adapter is in memory, without a request for it', async () => {
    const { digest } = await under.register(4)
    const answer = await order('prefetch', ref(digest))
    expect(answer).toMatchObject({
      status: 200,
      body: { adapters: [{ digest, state: 'resident', tier: 'ram', leases: 0, pinned: false }], slotsWanted: 0 },
    })
    expect(under.store.gets).toHaveLength(2)
    expect((await order('prefetch', ref(digest))).status).toBe(200)
    expect(under.store.gets).toHaveLength(2)
  })

  it('to pin and unpin is seen in the report, and is the same the second time', async () => {
    const { digest } = await under.register(4)
    for (const pinned of [true, true, false, false]) {
      const answer = await order(pinned ? 'pin' : 'unpin', ref(digest))
      expect(answer).toMatchObject({ status: 200, body: { adapters: [{ digest, pinned, leases: 0 }] } })
    }
    expect(under.cache.activity()).toMatchObject({ pinned: 0, pinnedBytes: 0 })
  })

  it('is refused with the adapter’s own code', async () => {
    expect(await order('pin', ref('0'.repeat(64)))).toMatchObject({ status: 404, body: { code: 'adapter_not_found' } })
    expect(await order('pin', { kind: 'base' })).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    expect(await order('pin', ref('nope'))).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    expect((await order('other', ref('0'.repeat(64)))).status).toBe(404)
    expect((await call(`${server.url}/v1/adapters/pin`)).status).toBe(405)
  })

  it('to prefetch ends when whoever gave it goes away', async () => {
    const { digest } = await under.register(4)
    const [reached, aborted] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    under.store.onGet = async (_, signal) => {
      reached.resolve()
      await new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => {
          aborted.resolve()
          reject(signal.reason)
        })
      })
    }
    const caller = new AbortController()
    const answer = order('prefetch', ref(digest), caller.signal).catch(() => 'left')
    await reached.promise
    caller.abort()
    expect(await answer).toBe('left')
    await aborted.promise
  })

  it('to lift lets an adapter be tried again at once', async () => {
    const { digest } = await under.register(4)
    const bytes = new Map(under.store.objects)
    under.store.objects.clear()
    expect((await order('prefetch', ref(digest))).status).toBe(404)
    expect((await report(digest)).body).toMatchObject({
      adapters: [{ digest, state: 'quarantined', cause: 'adapter_not_found', remainingMs: 1000 }],
    })
    for (const [key, value] of bytes) under.store.objects.set(key, value)
    expect((await order('prefetch', ref(digest))).status).toBe(404)
    expect(await order('lift', ref(digest))).toMatchObject({ status: 200, body: { adapters: [] } })
    expect((await order('prefetch', ref(digest))).status).toBe(200)
  })
})

describe('the report of adapters', () => {
  it('lists what is anywhere, each in its fastest tier, and leaves out what is nowhere', async () => {
    const [one, two] = [await under.register(1), await under.register(2)]
    const lease = under.cache.lease(one)
    await lease.ready
    await under.cache.loadIntoSlot(lease, 1 as never)
    await order('prefetch', ref(two.digest))
    expect((await report()).body).toMatchObject({
      adapters: [
        { digest: one.digest, state: 'resident', tier: 'device', slot: 1 },
        { digest: two.digest, state: 'resident', tier: 'ram' },
      ],
      slotsWanted: 1,
    })
    lease.release()
    expect((await report('f'.repeat(64))).body).toEqual({ adapters: [], slotsWanted: 1 })
    expect((await report('x')).status).toBe(400)
    expect(under.cache.presences(parseAdapterDigest(two.digest)).adapters).toHaveLength(1)
  })
})
