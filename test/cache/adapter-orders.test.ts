/** Pins, prefetches, loads that outlive their request, quarantine: what the whole cache makes of them. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { storedAdapterKeys } from '@quiver/cache/store'
import { describe, expect, it } from 'vitest'
import { type CacheUnderTest, cacheUnderTest } from '../support/cache-under-test.ts'
import { refusal } from '../support/refusal.ts'

const { signal } = new AbortController()

async function until(holds: () => boolean): Promise<void> {
  for (let turns = 0; !holds(); turns++) {
    if (turns > 100_000) throw new Error('never happened')
    await new Promise((done) => setImmediate(done))
  }
}

/** Holds downloads up until they are let go; `aborted` tells whether one was given up. */
function hold({ store }: CacheUnderTest) {
  const gate = Promise.withResolvers<void>()
  const held = { letGo: gate.resolve, reached: 0, aborted: 0 }
  store.onGet = async (_, given) => {
    held.reached += 1
    given?.addEventListener('abort', () => {
      held.aborted += 1
      gate.reject(given.reason)
    })
    await gate.promise
  }
  return held
}

describe('a pinned adapter', () => {
  it('stays in RAM and on disk while others come and go, and leaves like them once unpinned', async () => {
    const under = await cacheUnderTest({ ramBytes: 4000, diskBytes: 4000 })
    const { cache } = under
    const pinned = await under.register(1)
    await cache.pin(pinned, signal)
    const bytes = cache.activity().pinnedBytes
    expect([bytes > 0, bytes <= 2000, cache.activity().pinned]).toEqual([true, true, 1])
    const visit = async (alpha: number): Promise<void> => {
      const lease = cache.lease(await under.register(alpha))
      await lease.ready
      lease.release()
    }
    for (let alpha = 2; alpha < 12; alpha += 1) await visit(alpha)
    expect(cache.presences(pinned.digest).adapters).toMatchObject([{ state: 'resident', tier: 'ram', pinned: true, leases: 0 }])
    cache.unpin(pinned.digest)
    for (let alpha = 12; alpha < 22; alpha += 1) for (let again = 0; again < 3; again += 1) await visit(alpha)
    expect(cache.presences(pinned.digest).adapters.map(({ tier }) => tier)).not.toContain('ram')
  })

  it('T06: takes at most half of the RAM budget together with the other pins; more is a conflict that says so', async () => {
    const under = await cacheUnderTest()
    await under.cache.pin(await under.register(1), signal)
    const { pinnedBytes } = under.cache.activity()
    const small = await cacheUnderTest({ ramBytes: 3 * pinnedBytes })
    await small.cache.pin(await small.register(1), signal)
    const second = await small.register(2)
    const error = await refusal(() => small.cache.pin(second, signal))
    expect([error.code, error.message]).toEqual([
      'conflict',
      expect.stringMatching(/adapter-2 .* cannot be pinned.*QUIVER_RAM_BYTES/),
    ])
    // What was refused is here all the same, as any adapter that was asked for.
    expect(small.cache.presences(second.digest).adapters).toMatchObject([{ tier: 'ram', pinned: false, leases: 0 }])
    expect(small.cache.activity()).toMatchObject({ pinned: 1, pinnedBytes })
  })

  it('is pinned once, however often that is wished at the same time', async () => {
    const under = await cacheUnderTest()
    const identity = await under.register(1)
    await Promise.all([1, 2, 3].map(() => under.cache.pin(identity, signal)))
    expect(under.cache.activity().pinned).toBe(1)
    under.cache.unpin(identity.digest)
    under.cache.unpin(identity.digest)
    expect(under.cache.activity()).toMatchObject({ pinned: 0, pinnedBytes: 0 })
  })

  it('is not pinned when it is unpinned while it arrives', async () => {
    const under = await cacheUnderTest()
    const identity = await under.register(1)
    const held = hold(under)
    const pin = refusal(() => under.cache.pin(identity, signal))
    await until(() => held.reached === 1)
    under.cache.unpin(identity.digest)
    held.letGo()
    expect((await pin).code).toBe('conflict')
    expect(under.cache.activity().pinned).toBe(0)
  })
})

describe('a prefetch', () => {
  it('is given up when its caller leaves, unless a request waits for the same adapter', async () => {
    const under = await cacheUnderTest()
    const identity = await under.register(1)
    const held = hold(under)
    const caller = new AbortController()
    const prefetch = refusal(() => under.cache.prefetch(identity, caller.signal))
    const lease = under.cache.lease(identity)
    await until(() => held.reached === 1)
    caller.abort()
    expect([(await prefetch).code, held.aborted]).toEqual(['client_closed', 0])
    held.letGo()
    await lease.ready
    lease.release()
  })

  it('is bounded: beyond the bound an order is refused, and what is under way goes on', async () => {
    const under = await cacheUnderTest()
    const held = hold(under)
    const identities = await Promise.all(Array.from({ length: 65 }, (_, index) => under.register(index + 1)))
    const orders = identities.map((identity) =>
      under.cache.prefetch(identity, signal).catch((error: { code: string }) => error.code),
    )
    expect(await orders[64]).toBe('overloaded')
    held.letGo()
    expect(new Set(await Promise.all(orders.slice(0, 64)))).toEqual(new Set([undefined]))
  })

  it('ends when the cache is closed', async () => {
    const under = await cacheUnderTest()
    const held = hold(under)
    const identity = await under.register(1)
    const prefetch = refusal(() => under.cache.prefetch(identity, signal))
    await until(() => held.reached === 1)
    await under.cache.close()
    expect([(await prefetch).code, held.aborted]).toEqual(['draining', 1])
  })
})

describe('a load whose last request could not wait any longer', () => {
  it('goes on, and the next request finds the adapter', async () => {
    const under = await cacheUnderTest()
    const identity = await under.register(1)
    const held = hold(under)
    const lease = under.cache.lease(identity)
    await until(() => held.reached === 1)
    lease.releaseLoading()
    lease.releaseLoading()
    expect([lease.state, held.aborted]).toEqual(['released', 0])
    held.letGo()
    await until(() => under.cache.residency(identity.digest).state === 'resident')
    const again = under.cache.lease(identity)
    expect([again.state, under.store.gets.length]).toEqual(['ready', 2])
    again.release()
    expect(under.cache.residency(identity.digest)).toMatchObject({ leaseCount: 0 })
  })

  it('is one load, however many requests could not wait', async () => {
    const under = await cacheUnderTest()
    const identity = await under.register(1)
    const held = hold(under)
    for (let i = 0; i < 100; i += 1) under.cache.lease(identity).releaseLoading()
    await until(() => held.reached === 1)
    held.letGo()
    await until(() => under.cache.residency(identity.digest).state === 'resident')
    expect(under.store.gets).toHaveLength(2)
  })
})

describe('an adapter that fails by its own fault', () => {
  const invalid = async (under: CacheUnderTest) => {
    const identity = await under.register(1)
    const { config } = storedAdapterKeys(identity.digest)
    under.store.objects.set(config, Buffer.from('{"peft_type": "LOKR"}'))
    return identity
  }

  it('is quarantined the second time, seen with cause and time, and tried again when it is lifted', async () => {
    const under = await cacheUnderTest()
    const { cache, clock, store } = under
    const identity = await invalid(under)
    for (let i = 0; i < 2; i += 1) {
      expect((await refusal(() => cache.lease(identity).ready)).code).toBe('adapter_invalid')
      clock.advance(1000)
    }
    const gets = store.gets.length
    expect((await refusal(() => cache.lease(identity).ready)).code).toBe('adapter_invalid')
    expect(store.gets).toHaveLength(gets)
    expect(cache.activity()).toMatchObject({ quarantined: 1, failedLoads: 2 })
    expect(cache.presences().adapters).toMatchObject([
      { digest: identity.digest, state: 'quarantined', cause: 'adapter_invalid', remainingMs: 15 * 60_000 - 1000 },
    ])
    await cache.lift(identity.digest)
    expect(cache.presences().adapters).toEqual([])
    await refusal(() => cache.lease(identity).ready)
    expect(store.gets.length).toBeGreaterThan(gets)
  })

  it('W09: having ended the worker twice while it loaded, is not tried a third time; others are', async () => {
    const first = await cacheUnderTest()
    const poison = await first.register(1)
    await first.cache.close()
    const attempts = join(first.cacheDir, 'attempts')
    const crash = (): Promise<void> => writeFile(join(attempts, `${poison.digest}.load.4194999`), '')
    await crash()
    const second = await cacheUnderTest({ cacheDir: first.cacheDir })
    // One crash may have been anything.
    expect(second.cache.activity().quarantined).toBe(0)
    await second.cache.close()
    await crash()
    const third = await cacheUnderTest({ cacheDir: first.cacheDir })
    await third.register(1)
    const error = await refusal(() => third.cache.lease(poison).ready)
    expect([error.code, error.message]).toEqual(['adapter_invalid', expect.stringContaining('has ended the worker 2 times')])
    expect(third.store.gets).toEqual([])
    await third.cache.prefetch(await third.register(2), signal)
    await third.cache.lift(poison.digest)
    await third.cache.prefetch(poison, signal)
    expect(await readdir(attempts)).toEqual([])
  })
})

it('W09: suspects that wait for each other hold up nobody else', async () => {
  const before = await cacheUnderTest()
  const suspects = await Promise.all(Array.from({ length: 20 }, (_, index) => before.register(index + 1)))
  await before.cache.close()
  for (const { digest } of suspects) await writeFile(join(before.cacheDir, 'attempts', `${digest}.load.4194999`), '')
  const under = await cacheUnderTest({ cacheDir: before.cacheDir })
  for (let alpha = 1; alpha <= 20; alpha += 1) await under.register(alpha)
  const other = await under.register(99)
  const gate = Promise.withResolvers<void>()
  under.store.onGet = async (key) => (key.includes(other.digest) ? undefined : await gate.promise)
  const leases = suspects.map((identity) => under.cache.lease(identity))
  await under.cache.prefetch(other, signal)
  expect(under.store.gets.length).toBeLessThan(5)
  gate.resolve()
  await Promise.all(leases.map((lease) => lease.ready.finally(() => lease.release())))
  expect(under.cache.activity()).toMatchObject({ arrived: { origin: 21 }, failedLoads: 0 })
})

describe('what the cache counts', () => {
  it('is where requests found their adapter, and where loads came from', async () => {
    const under = await cacheUnderTest()
    const identity = await under.register(1)
    const first = under.cache.lease(identity)
    const second = under.cache.lease(identity)
    await Promise.all([first.ready, second.ready])
    under.cache.lease(identity).release()
    await under.cache.loadIntoSlot(first, 0 as never)
    under.cache.lease(identity).release()
    expect(under.cache.activity()).toMatchObject({
      found: { absent: 1, arriving: 1, ram: 1, device: 1 },
      arrived: { disk: 0, origin: 1, merge: 0 },
      slotsWanted: 1,
    })
    for (const lease of [first, second]) lease.release()
    await under.cache.close()
    const again = await cacheUnderTest({ cacheDir: under.cacheDir })
    await again.cache.prefetch(identity, signal)
    // A prefetch is no request.
    expect(again.cache.activity()).toMatchObject({ found: { absent: 0 }, arrived: { disk: 1, origin: 0 } })
  })

  it('says how many slots the traffic wants, from those that came back', async () => {
    const under = await cacheUnderTest({}, 2)
    const identities = await Promise.all([1, 2, 3].map((alpha) => under.register(alpha)))
    for (let round = 0; round < 2; round += 1) {
      for (const [index, identity] of identities.entries()) {
        const lease = under.cache.lease(identity)
        await lease.ready
        if (under.cache.device.slotOf(identity.digest) === undefined)
          await under.cache.loadIntoSlot(lease, ((round * 3 + index) % 2) as never)
        lease.release()
      }
    }
    expect(under.cache.presences().slotsWanted).toBe(3)
  })
})

it('L02: RAM that is limited for a while gives up what nobody uses, and takes it back later', async () => {
  const under = await cacheUnderTest()
  const [one, two] = [await under.register(1), await under.register(2)]
  for (const identity of [one, two]) await under.cache.prefetch(identity, signal)
  const held = under.cache.lease(one)
  under.cache.limitRam(1)
  expect(under.cache.usage().ram).toMatchObject({ budgetBytes: 1, evicted: 1 })
  expect(under.cache.presences(one.digest).adapters).toMatchObject([{ tier: 'ram', leases: 1 }])
  await until(() => under.cache.presences(two.digest).adapters[0]?.tier === 'disk')
  held.release()
  under.cache.limitRam(Number.POSITIVE_INFINITY)
  expect(under.cache.usage().ram.budgetBytes).toBe(1e9)
})
