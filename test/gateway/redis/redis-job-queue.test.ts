import { randomBytes } from 'node:crypto'
import { systemClock } from '@quiver/gateway'
import type { LogLevel } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { QueueRules } from '../../../packages/gateway/src/publish/job-queue.ts'
import { connectRedis } from '../../../packages/gateway/src/redis/redis-connection.ts'
import { RedisJobQueue } from '../../../packages/gateway/src/redis/redis-job-queue.ts'
import { type RedisServer, startRedisServer } from '../../support/redis-server.ts'
import { describeJobQueue, type QueueUnderTest, testRules } from '../publish/job-queue-conformance.ts'

let server: RedisServer
beforeAll(async () => {
  server = await startRedisServer()
})
afterAll(async () => await server?.stop())

async function open(
  rules: QueueRules,
  { scope = randomBytes(6).toString('hex'), url = server.url } = {},
): Promise<QueueUnderTest> {
  const clock = systemClock()
  const log: { level: LogLevel; message: string }[] = []
  const redis = connectRedis(url, { clock, random: Math.random, log: () => {} })
  const queue = new RedisJobQueue({
    ...{ redis, scope, clock, rules, now: () => new Date(), locks: { lockMs: 1000, checkMs: 500 } },
    log: (level, message) => log.push({ level, message }),
  })
  await expect.poll(() => queue.queue !== undefined).toBe(true)
  return {
    queue,
    log,
    pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    async close() {
      await queue.close()
      await redis.close()
    },
  }
}

describeJobQueue('the queue in Redis', (rules) => open(rules))

describe('the queue in Redis', () => {
  it('is one for all gateways: a job runs on one of them, and whoever is left takes up what another left behind', async () => {
    const scope = randomBytes(6).toString('hex')
    const dying = await open(testRules, { scope })
    const other = await open(testRules, { scope })
    onTestFinished(() => other.close())
    let begun = 0
    dying.queue.start(async () => {
      begun++
      return await new Promise(() => {})
    })
    await dying.queue.add({ id: 'drop-1', name: 'a' })
    await expect.poll(() => begun).toBe(1)
    await other.queue.add({ id: 'drop-1', name: 'a' })
    // Its connections are gone, as a killed process's are.
    await dying.close()
    let taken = 0
    other.queue.start(async () => {
      taken++
      return { outcome: 'superseded' }
    })
    await expect.poll(async () => (await other.queue.recent(1))[0]?.state, { timeout: 10_000 }).toBe('superseded')
    expect([begun, taken]).toEqual([1, 1])
  })

  it('says at once that Redis is away, and goes on when it is back, empty', async () => {
    const own = await startRedisServer()
    onTestFinished(() => own.stop())
    const { queue, close } = await open(testRules, { url: own.url })
    onTestFinished(close)
    const ran: string[] = []
    queue.start(async ({ id }) => {
      ran.push(id)
      return { outcome: 'superseded' }
    })
    await queue.add({ id: 'drop-1', name: 'a' })
    await expect.poll(() => ran).toEqual(['drop-1'])
    await own.kill()
    await expect
      .poll(async () => await queue.add({ id: 'drop-2', name: 'a' }).catch((error) => error.code), { timeout: 15_000 })
      .toBe('source_unavailable')
    await expect(queue.recent(10)).rejects.toMatchObject({ code: 'source_unavailable' })
    await own.restart()
    await expect
      .poll(
        async () =>
          await queue.add({ id: 'drop-2', name: 'a' }).then(
            () => 'added',
            (error) => error.code,
          ),
        { timeout: 15_000 },
      )
      .toBe('added')
    await expect.poll(() => ran, { timeout: 15_000 }).toEqual(['drop-1', 'drop-2'])
  })

  it('begins when a Redis that was down at the start comes', async () => {
    const own = await startRedisServer()
    onTestFinished(() => own.stop())
    await own.kill()
    const clock = systemClock()
    const redis = connectRedis(own.url, { clock, random: Math.random, log: () => {} })
    const queue = new RedisJobQueue({ redis, scope: 's', clock, rules: testRules, now: () => new Date(), log: () => {} })
    onTestFinished(async () => {
      await queue.close()
      await redis.close()
    })
    const ran: string[] = []
    queue.start(async ({ id }) => {
      ran.push(id)
      return { outcome: 'superseded' }
    })
    await expect(queue.add({ id: 'drop-1', name: 'a' })).rejects.toMatchObject({ code: 'source_unavailable' })
    await own.restart()
    await expect
      .poll(
        async () =>
          await queue.add({ id: 'drop-1', name: 'a' }).then(
            () => 'added',
            (error) => error.code,
          ),
        { timeout: 15_000 },
      )
      .toBe('added')
    await expect.poll(() => ran, { timeout: 15_000 }).toEqual(['drop-1'])
  })
})
