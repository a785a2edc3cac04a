import { describe, expect, it } from 'vitest'
import { retryAfter, TenantQueues } from '../../packages/worker/src/tenant-queues.ts'
import { BatchHarness, registered } from '../support/batch-harness.ts'

const speed = { running: 0, share: 1, turnoverMs: 100, tokensPerSecond: 1_000 }

describe('the queue of a tenant', () => {
  it('T04 takes so many requests of one tenant and refuses the next, with the time to come back at', () => {
    const queues = new TenantQueues({ requests: 2, tokens: 1_000 }, () => ({ ...speed, turnoverMs: 3_000 }))
    const first = queues.enter('a')
    queues.enter('a')
    expect(() => queues.enter('a')).toThrow(
      expect.objectContaining({ code: 'rate_limited', context: { retryAfterS: 3 }, message: expect.stringContaining('in 3 s') }),
    )
    queues.enter('b')
    first.leave()
    first.leave()
    queues.enter('a')
    expect(() => queues.enter('a')).toThrow(/2 requests of this tenant/)
  })

  it('counts waiting requests only: those that run leave room', () => {
    const queues = new TenantQueues({ requests: 1, tokens: 1_000 }, () => ({ ...speed, running: 2 }))
    for (let count = 0; count < 3; count++) queues.enter('a')
    expect(() => queues.enter('a')).toThrow(/waiting already/)
  })

  it('bounds the prompt tokens of a tenant, but takes one request of any length', () => {
    const queues = new TenantQueues({ requests: 9, tokens: 1_000 }, () => speed)
    const long = queues.enter('a')
    long.addTokens(5_000)
    expect(() => queues.enter('a').addTokens(1)).toThrow(expect.objectContaining({ code: 'rate_limited' }))
    long.leave()
    queues.enter('a').addTokens(999)
  })

  it("says when half of it will be done: by the ends or by the prompts, whichever takes longer, at the tenant's share", () => {
    expect(retryAfter({ requests: 100, tokens: 0 }, speed)).toBe(5)
    expect(retryAfter({ requests: 100, tokens: 40_000 }, speed)).toBe(20)
    expect(retryAfter({ requests: 100, tokens: 0 }, { ...speed, share: 0.25 })).toBe(20)
    expect(retryAfter({ requests: 1, tokens: 1 }, speed)).toBe(1)
    expect(retryAfter({ requests: 100_000, tokens: 1 }, speed)).toBe(120)
  })
})

describe('a worker with tenants', () => {
  it('T04 refuses a flood by itself, and takes what others send', async () => {
    const harness = new BatchHarness({ tenantLimits: { requests: 3, tokens: 10_000 } })
    const flood = Array.from({ length: 50 }, () => harness.run({ tenant: 'a' }))
    const other = harness.run({ tenant: 'b' })
    const ends = await Promise.all(flood.map(({ end }) => end))
    const refused = ends.filter((end) => end.type === 'error')
    expect(refused.length).toBeGreaterThan(40)
    expect(refused[0]).toMatchObject({ code: 'rate_limited', retryAfterS: expect.any(Number) })
    expect(await other.end).toMatchObject({ type: 'done' })
    expect(await harness.run({ tenant: 'a' }).end).toMatchObject({ type: 'done' })
    const served = harness.loop.state().tenants
    expect(served.find(({ tenant }) => tenant === 'b')).toMatchObject({ waiting: 0, running: 0 })
    await harness.loop.close()
  })

  it('T05 brings a few cold adapters of one tenant at a time, and those of others beside them', async () => {
    const harness = new BatchHarness({})
    for (let index = 0; index < 20; index++) harness.cache.behave(`cold-${index}`, { held: true })
    const scan = Array.from({ length: 20 }, (_, index) => harness.run({ tenant: 'a', adapter: registered(`cold-${index}`) }))
    await harness.turns()
    expect(harness.cache.asked).toHaveLength(8)
    expect(await harness.run({ tenant: 'b', on: 'own' }).end).toMatchObject({ type: 'done' })
    // One arrives, the next one starts; a client that leaves while it waits for its turn takes none.
    scan[8]?.cancel()
    harness.cache.letGo('cold-0')
    expect(await scan[0]?.end).toMatchObject({ type: 'done' })
    await harness.turns()
    expect(harness.cache.asked.slice(8)).toEqual(['own', 'cold-9'])
    for (let index = 1; index < 20; index++) harness.cache.letGo(`cold-${index}`)
    const ends = await Promise.all(scan.map(({ end }) => end))
    expect(ends.filter(({ type }) => type === 'done')).toHaveLength(19)
    expect(harness.cache.leaseCount).toBe(0)
    await harness.loop.close()
  })
})
