/** Workers that register themselves in a real Redis, and what becomes of that when Redis or a worker misbehaves. */
import { RedisRegistry, systemClock, WorkerRegistration } from '@quiver/gateway'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { redisDiscovery } from '../../../packages/gateway/src/discovery/redis-discovery.ts'
import { connectRedis } from '../../../packages/gateway/src/redis/redis-connection.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { type RedisServer, startRedisServer } from '../../support/redis-server.ts'

let server: RedisServer
beforeAll(async () => {
  server = await startRedisServer()
})
afterAll(() => server.stop())

const log: string[] = []
afterEach(() => {
  log.length = 0
})

async function connect() {
  const write = (_level: string, message: string) => log.push(message)
  const redis = connectRedis(server.url, { log: write, random: Math.random, clock: systemClock() })
  await redis.isReadyWithin(5_000)
  onTestFinished(() => redis.close())
  return { redis, registry: new RedisRegistry({ redis, log: write }) }
}

let registry: RedisRegistry
let client: Awaited<ReturnType<typeof connect>>['redis']['client']
beforeEach(async () => {
  const connected = await connect()
  registry = connected.registry
  client = connected.redis.client
  await client.flushall()
})

const address = 'http://10.0.0.7:8090'
const entry = (fence: number, epoch = 'one') => ({ address, base: 'base', epoch, fence })

describe('a worker in Redis', () => {
  test('is listed until it takes itself out', async () => {
    const fence = await registry.takeFence()
    expect(await registry.register(entry(fence))).toBe(true)
    expect(await registry.list()).toEqual([entry(fence)])
    await registry.unregister(entry(fence))
    expect(await registry.list()).toEqual([])
  })

  test('is not listed any more when it does not renew its entry', async () => {
    await registry.register(entry(await registry.takeFence()))
    await client.pexpire('quiver:workers:1:at:http://10.0.0.7:8090', 1)
    while ((await registry.list()).length > 0) await new Promise(setImmediate)
    expect(await client.smembers('quiver:workers:1')).toEqual([])
  })

  test('R06 R07 that started later wins, and the earlier one is refused when it comes back', async () => {
    const [early, late] = [await registry.takeFence(), await registry.takeFence()]
    expect(late).toBeGreaterThan(early)
    expect(await registry.register(entry(early, 'early'))).toBe(true)
    expect(await registry.register(entry(late, 'late'))).toBe(true)
    expect(await registry.register(entry(early, 'early'))).toBe(false)
    await registry.unregister(entry(early, 'early'))
    expect(await registry.list()).toEqual([entry(late, 'late')])
  })

  test('R07 that starts after a flush still has a later number than one from before', async () => {
    const before = await registry.takeFence()
    for (let start = 0; start < 3; start++) await registry.takeFence()
    await client.flushall()
    const after = await registry.takeFence()
    expect(after).toBeGreaterThan(before)
    expect(await registry.takeFence()).toBeGreaterThan(after)
  })

  test('R09 that is written in another form, or for another address, is left out and said', async () => {
    await registry.register(entry(await registry.takeFence()))
    await client.sadd('quiver:workers:1', 'http://other', 'http://third')
    await client.set('quiver:workers:1:at:http://other', '{"version":2}')
    await client.set('quiver:workers:1:at:http://third', JSON.stringify(entry(1)))
    expect((await registry.list()).map((one) => one.address)).toEqual([address])
    expect(log).toHaveLength(2)
    // What stands there in a form that is not known does not keep a worker out.
    await client.set(`quiver:workers:1:at:${address}`, 'nonsense')
    expect(await registry.register(entry(1))).toBe(true)
  })
})

describe('a registration', () => {
  const self = { address, base: 'base', epoch: 'one' }
  function begin(parts: Partial<ConstructorParameters<typeof WorkerRegistration>[1]> = {}) {
    const clock = new ManualClock()
    const replaced: string[] = []
    const write = (_level: string, message: string) => log.push(message)
    const deps = { registry, clock, log: write, onReplaced: () => replaced.push('replaced'), ...parts }
    const registration = new WorkerRegistration(self, deps)
    registration.start()
    /** One renewal. */
    const beat = async () => {
      do await new Promise(setImmediate)
      while (clock.pending === 0)
      clock.advance(1_000)
    }
    return { registration, clock, replaced, beat }
  }
  const listed = async () => (await registry.list()).map(({ epoch }) => epoch)

  test('R02 R10 is there again within one renewal after Redis was flushed or restarted empty', async () => {
    const { registration, beat } = begin()
    await beat()
    for (const harm of [() => client.flushall(), () => server.restart()]) {
      await harm()
      while (!(await listed().catch((): string[] => [])).includes('one')) await beat()
    }
    await registration.end()
    expect(await listed()).toEqual([])
  })

  test('R07 stops for good when a later start has the address, and its worker is told', async () => {
    const { replaced, beat, clock } = begin()
    await beat()
    await registry.register({ ...self, epoch: 'two', fence: await registry.takeFence() })
    while (replaced.length === 0) {
      if (clock.pending > 0) clock.advance(1_000)
      await new Promise(setImmediate)
    }
    expect([replaced, clock.pending]).toEqual([['replaced'], 0])
    expect(await listed()).toEqual(['two'])
  })

  test('R06 goes on trying while Redis does not answer, and keeps the number that it started with', async () => {
    let isDown = false
    const fences: number[] = []
    const flaky = {
      takeFence: async () => 7,
      unregister: async () => {},
      async register({ fence }: { fence: number }) {
        if (isDown) throw new Error('ECONNREFUSED')
        fences.push(fence)
        return true
      },
    }
    const { beat, registration } = begin({ registry: flaky })
    await beat()
    isDown = true
    for (let round = 0; round < 60; round++) await beat()
    isDown = false
    await beat()
    await beat()
    await registration.end()
    expect(fences.length).toBeGreaterThan(1)
    expect(new Set(fences)).toEqual(new Set([7]))
  })
})

describe('a gateway that looks into Redis', () => {
  test('R05 keeps the workers that it found last while Redis does not answer', async () => {
    const clock = new ManualClock()
    const lists: (readonly string[])[] = []
    let isDown = false
    const discovery = redisDiscovery(
      {
        async list() {
          if (isDown) throw new Error('ETIMEDOUT')
          return [entry(1)]
        },
      },
      { clock, random: () => 0.5 },
    )
    discovery.start((addresses) => lists.push(addresses))
    for (let round = 0; round < 60; round++) {
      await new Promise(setImmediate)
      isDown = true
      clock.advance(1_000)
    }
    expect(lists).toEqual([[address]])
    discovery.close()
    expect(clock.pending).toBe(0)
  })
})
