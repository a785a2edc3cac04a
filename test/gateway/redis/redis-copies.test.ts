/** The catalogue's copies and feed on a real Redis, and what becomes of a gateway when Redis fails. */
import { randomUUID } from 'node:crypto'
import { CatalogueEditor, CatalogueSync, RedisChangeFeed, type RedisConnection, RedisHotCopy, systemClock } from '@quiver/gateway'
import { parseAdapterName } from '@quiver/protocol'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { connectRedis, reconnectPauseMs } from '../../../packages/gateway/src/redis/redis-connection.ts'
import { freshCatalogue, publishedAt, publishTo } from '../../support/catalogues.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { type RedisServer, startRedisServer } from '../../support/redis-server.ts'
import { RefusingRedis } from '../../support/refusing-redis.ts'
import { describeChangeFeed } from '../catalogue/change-feed-conformance.ts'
import { describeHotCopy } from '../catalogue/hot-copy-conformance.ts'

let server: RedisServer
beforeAll(async () => {
  server = await startRedisServer()
})
afterAll(() => server.stop())

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
})
const clock = systemClock()

async function connect(lines: string[] = [], url = server.url): Promise<RedisConnection> {
  const log = (_level: unknown, message: string) => void lines.push(message)
  const redis = connectRedis(url, { log, random: () => 0, clock })
  open.push(redis)
  await redis.isReadyWithin(2000)
  return redis
}

describeHotCopy('Redis', async () => new RedisHotCopy({ redis: await connect(), scope: randomUUID(), log: () => {} }))
describeChangeFeed('Redis', async () => {
  const scope = randomUUID()
  const feeds = await Promise.all([connect(), connect()])
  const [here, there] = feeds.map((redis) => new RedisChangeFeed({ redis, scope }))
  if (here === undefined || there === undefined) throw new Error('two were made')
  return [here, there]
})

/** A gateway's catalogue over a store, with Redis. */
async function gateway(store: MemoryStore, scope: string) {
  const lines: string[] = []
  const log = (_level: unknown, message: string) => void lines.push(message)
  const redis = await connect(lines)
  const hotCopy = new RedisHotCopy({ redis, scope, log })
  const feed = new RedisChangeFeed({ redis, scope })
  const catalogue = await freshCatalogue(store, { hotCopy, feed, log })
  // So seldom that a test sees what the feed does.
  const sync = new CatalogueSync({ catalogue, clock, random: Math.random, log, feed, refreshMs: 3_600_000 })
  sync.start()
  open.push(sync)
  const editor = new CatalogueEditor({ catalogue, now: () => publishedAt })
  return { catalogue, editor, redis, lines, hotCopy }
}

const by = { actor: { tenant: 'ops' } }
const a = parseAdapterName('a')

describe('a gateway with Redis', () => {
  test('starts from copies, and hears of another’s changes', async () => {
    const store = new MemoryStore()
    const scope = randomUUID()
    const first = await gateway(store, scope)
    await publishTo(store, first.catalogue, 'a', 1)
    store.gets.length = 0
    const second = await gateway(store, scope)
    expect([second.catalogue.find('a').manifest.version, store.gets]).toEqual([1, []])
    await publishTo(store, first.catalogue, 'a', 2)
    await vi.waitFor(() => expect(second.catalogue.find('a').manifest.version).toBe(2))
    await second.editor.rollback(a, by)
    await vi.waitFor(() => expect(first.catalogue.find('a').manifest.version).toBe(1))
  })

  test('R09 passes over copies of another form, and foreign ones', async () => {
    const store = new MemoryStore()
    const scope = randomUUID()
    const first = await gateway(store, scope)
    await publishTo(store, first.catalogue, 'a', 1)
    const keys = await first.redis.client.keys(`quiver:${scope}:copy:*`)
    expect(keys).toHaveLength(2)
    const etags = await Promise.all(keys.map(async (key) => (await first.redis.client.get(key))?.split('\n')[0]))
    for (const [n, key] of keys.entries()) await first.redis.client.set(key, `${etags[n]}\n${'0'.repeat(64)}\n{"version":99}`)
    store.gets.length = 0
    const second = await gateway(store, scope)
    expect([second.catalogue.find('a').manifest.version, second.catalogue.problems(), store.gets.length]).toEqual([1, [], 2])
    await first.redis.client.del(keys)
    for (const key of keys) await first.redis.client.hset(key, 'a', 'hash')
    expect((await gateway(store, scope)).catalogue.names()).toEqual(['a'])
  })

  test('R10 loses nothing when Redis is flushed, and copies come back', async () => {
    const store = new MemoryStore()
    const scope = randomUUID()
    const first = await gateway(store, scope)
    await publishTo(store, first.catalogue, 'a', 1)
    await first.redis.client.flushall()
    expect(first.catalogue.find('a').manifest.version).toBe(1)
    expect((await gateway(store, scope)).catalogue.names()).toEqual(['a'])
    expect(await first.redis.client.keys(`quiver:${scope}:copy:*`)).toHaveLength(2)
  })

  test('R04 R08 goes on from the store while Redis refuses to write, and says so once', async () => {
    const store = new MemoryStore()
    const { catalogue, redis, lines, hotCopy } = await gateway(store, randomUUID())
    await redis.client.config('SET', 'maxmemory', '1')
    try {
      await publishTo(store, catalogue, 'a', 1)
      await publishTo(store, catalogue, 'a', 2)
      expect(lines).toEqual(['Redis keeps no copies of the catalogue now: it is read from the store'])
    } finally {
      await redis.client.config('SET', 'maxmemory', '0')
    }
    await hotCopy.write([{ key: 'k', etag: 'e', bytes: new Uint8Array() }])
    expect(lines).toHaveLength(2)
    // A replica, as what was the primary is after a failover.
    await redis.client.replicaof('127.0.0.1', '1')
    try {
      await publishTo(store, catalogue, 'a', 3)
      expect((await freshCatalogue(store)).find('a').manifest.version).toBe(3)
    } finally {
      const other = await connect()
      await vi.waitFor(async () => expect(await other.client.replicaof('NO', 'ONE')).toBe('OK'))
    }
  })
})

describe('a gateway whose Redis', () => {
  test('R01 is down at its start is ready all the same', async () => {
    const store = new MemoryStore()
    await publishTo(store, await freshCatalogue(store), 'a', 1)
    const lines: string[] = []
    const log = (_level: unknown, message: string) => void lines.push(message)
    // A port that nobody listens on.
    const redis = connectRedis('redis://127.0.0.1:1', { log, random: () => 0, clock })
    open.push(redis)
    expect(await redis.isReadyWithin(200)).toBe(false)
    const hotCopy = new RedisHotCopy({ redis, scope: 's', log })
    const catalogue = await freshCatalogue(store, { hotCopy, feed: new RedisChangeFeed({ redis, scope: 's' }), log })
    await publishTo(store, catalogue, 'a', 2)
    expect(catalogue.find('a').manifest.version).toBe(2)
    expect(lines).toEqual(['Redis cannot be reached: the catalogue goes on from the store'])
  })

  test('R02 R05 is killed and comes back empty misses no change, and says that it is gone and back in one line each', async () => {
    const store = new MemoryStore()
    const scope = randomUUID()
    const [first, second] = [await gateway(store, scope), await gateway(store, scope)]
    await publishTo(store, first.catalogue, 'a', 1)
    await vi.waitFor(() => expect(second.catalogue.names()).toEqual(['a']))
    await server.kill()
    // A command on its way at that moment would fail too, and be told in lines of its own.
    await vi.waitFor(() => expect([first, second].map(({ redis }) => redis.client.status)).not.toContain('ready'))
    await publishTo(store, first.catalogue, 'a', 2)
    expect([first, second].map(({ catalogue }) => catalogue.find('a').manifest.version)).toEqual([2, 1])
    await server.restart()
    // Of what was announced while nobody could hear, the new subscription's gap tells.
    await vi.waitFor(() => expect(second.catalogue.find('a').manifest.version).toBe(2), { timeout: 15_000 })
    await vi.waitFor(() => expect(first.redis.client.status).toBe('ready'), { timeout: 15_000 })
    await publishTo(store, first.catalogue, 'a', 3)
    await vi.waitFor(() => expect(second.catalogue.find('a').manifest.version).toBe(3), { timeout: 5000 })
    expect(first.lines).toEqual(['Redis cannot be reached: the catalogue goes on from the store', 'Redis can be reached again'])
  })

  test('R08 stands still holds up a publication by its command timeout and a request not at all', async () => {
    const store = new MemoryStore()
    const { catalogue, lines } = await gateway(store, randomUUID())
    server.pause()
    try {
      await publishTo(store, catalogue, 'a', 1)
      expect(catalogue.resolve('a').name).toBe('a')
      expect(lines).toContain('Redis keeps no copies of the catalogue now: it is read from the store')
    } finally {
      server.resume()
    }
  })

  test('R08 is loading its data counts as one that cannot be reached, until it has loaded', async () => {
    const between = await RefusingRedis.before(server.port)
    open.push(between)
    between.refusal = { text: 'LOADING Redis is loading the dataset in memory' }
    const store = new MemoryStore()
    const lines: string[] = []
    const log = (_level: unknown, message: string) => void lines.push(message)
    const redis = connectRedis(between.url, { log, random: () => 0, clock })
    open.push(redis)
    expect(await redis.isReadyWithin(300)).toBe(false)
    expect(between.refused).toBeGreaterThan(0)
    const hotCopy = new RedisHotCopy({ redis, scope: randomUUID(), log })
    const catalogue = await freshCatalogue(store, { hotCopy, log })
    await publishTo(store, catalogue, 'a', 1)
    expect(catalogue.find('a').manifest.version).toBe(1)
    between.refusal = undefined
    expect(await redis.isReadyWithin(5_000)).toBe(true)
    await publishTo(store, catalogue, 'a', 2)
    expect(lines).toEqual(['Redis cannot be reached: the catalogue goes on from the store', 'Redis can be reached again'])
  })

  test('R08 cannot save and so takes no writes (MISCONF) is read, and the rest comes from the store', async () => {
    const between = await RefusingRedis.before(server.port)
    open.push(between)
    const store = new MemoryStore()
    const lines: string[] = []
    const redis = await connect(lines, between.url)
    const log = (_level: unknown, message: string) => void lines.push(message)
    const hotCopy = new RedisHotCopy({ redis, scope: randomUUID(), log })
    const catalogue = await freshCatalogue(store, { hotCopy, log })
    await publishTo(store, catalogue, 'a', 1)
    between.refusal = { text: 'MISCONF Redis is configured to save RDB snapshots, but it cannot', writesOnly: true }
    await publishTo(store, catalogue, 'a', 2)
    expect(catalogue.find('a').manifest.version).toBe(2)
    expect(lines).toEqual(['Redis keeps no copies of the catalogue now: it is read from the store'])
    between.refusal = undefined
    await publishTo(store, catalogue, 'a', 3)
    expect(lines.slice(1)).toEqual(['Redis keeps copies of the catalogue again'])
  })

  test('R11 is lost by fifty gateways sees them come back one by one: pauses differ, grow and have a bound', () => {
    const pauses = (attempt: number) => Array.from({ length: 50 }, (_, n) => reconnectPauseMs(attempt, n / 50))
    expect(new Set(pauses(8)).size).toBe(50)
    for (const attempt of [1, 4, 8, 20, 1000]) {
      expect(Math.min(...pauses(attempt))).toBe(50)
      expect(Math.max(...pauses(attempt))).toBeLessThanOrEqual(10_000)
    }
    expect(Math.max(...pauses(8)) - Math.min(...pauses(8))).toBeGreaterThan(9000)
  })
})
