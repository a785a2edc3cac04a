import { readdir, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { storedAdapterKeys } from '@quiver/cache/store'
import { ServingError, type SlotIndex } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { cacheUnderTest } from '../support/cache-under-test.ts'
import { digestFor } from '../support/packed-adapters.ts'
import { refusal } from '../support/refusal.ts'

const slot = (index: number): SlotIndex => index as SlotIndex
/** Lets pending promises and file operations run until `holds`, without waiting for time. */
async function until(holds: () => boolean): Promise<void> {
  for (let turns = 0; !holds(); turns++) {
    if (turns > 100_000) throw new Error('never happened')
    await new Promise((done) => setImmediate(done))
  }
}

describe('an adapter lease', () => {
  it('goes from arriving to ready to released, with the weights of its digest', async () => {
    const { cache, register } = await cacheUnderTest()
    const identity = await register(4)
    const lease = cache.lease(identity)
    expect([lease.state, lease.digest, lease.name]).toEqual(['arriving', identity.digest, 'adapter-4'])
    expect(() => lease.packed).toThrow(/ready lease/)
    await lease.ready
    expect([lease.state, lease.packed.digest, lease.packed.rank]).toEqual(['ready', identity.digest, 2])
    expect(cache.residency(identity.digest)).toMatchObject({ state: 'resident', tier: 'ram', leaseCount: 1 })
    lease.release()
    lease.release()
    expect(lease.state).toBe('released')
    expect(() => lease.packed).toThrow(/ready lease/)
    expect(cache.residency(identity.digest)).toMatchObject({ state: 'resident', tier: 'ram', leaseCount: 0 })
    await cache.close()
  })

  it('is ready in the same turn when the adapter is in RAM', async () => {
    const { cache, register } = await cacheUnderTest()
    const identity = await register(4)
    const first = cache.lease(identity)
    await first.ready
    const second = cache.lease(identity)
    expect([second.state, second.packed === first.packed]).toEqual(['ready', true])
  })

  it('O17 a hundred leases of one cold adapter cost one download', async () => {
    const { cache, store, register } = await cacheUnderTest()
    const identity = await register(4)
    const leases = Array.from({ length: 100 }, () => cache.lease(identity))
    await Promise.all(leases.map(({ ready }) => ready))
    expect(store.gets).toHaveLength(2)
    expect(cache.residency(identity.digest)).toMatchObject({ leaseCount: 100 })
    for (const lease of leases) lease.release()
    expect(cache.residency(identity.digest)).toMatchObject({ leaseCount: 0 })
  })

  it('O17 one abort does not cancel the other 99, the last abort does', async () => {
    const { cache, store, register } = await cacheUnderTest()
    const identity = await register(4)
    let signal: AbortSignal | undefined
    const gate = Promise.withResolvers<void>()
    store.onGet = async (_, given) => {
      signal = given
      await gate.promise
    }
    const leases = Array.from({ length: 100 }, () => cache.lease(identity))
    await until(() => signal !== undefined)
    for (const lease of leases.slice(1)) lease.release()
    expect(signal?.aborted).toBe(false)
    leases[0]?.release()
    expect(signal?.aborted).toBe(true)
    expect((await refusal(() => leases[0]?.ready)).code).toBe('client_closed')
    gate.resolve()
    await until(() => cache.residency(identity.digest).state !== 'arriving')
    expect(cache.residency(identity.digest)).toEqual({ state: 'absent' })
  })

  it('O17 a failed download fails all who wait, once', async () => {
    const { cache } = await cacheUnderTest()
    const leases = Array.from({ length: 100 }, () => cache.lease({ digest: digestFor('nowhere'), name: 'nowhere' }))
    const errors = await Promise.all(leases.map(({ ready }) => refusal(() => ready)))
    expect(new Set(errors).size).toBe(1)
    expect([errors[0]?.code, leases[0]?.state]).toEqual(['adapter_not_found', 'failed'])
    for (const lease of leases) lease.release()
  })

  it('O01 a failure is remembered for seconds, then tried again', async () => {
    const { cache, clock, store, register } = await cacheUnderTest()
    const identity = { digest: digestFor('late'), name: 'late' }
    await refusal(() => cache.lease(identity).ready)
    const again = cache.lease(identity)
    expect([again.state, store.gets.length]).toEqual(['failed', 1])
    expect((await refusal(() => again.ready)).code).toBe('adapter_not_found')
    expect(cache.residency(identity.digest)).toEqual({ state: 'quarantined', untilMs: 1_000, cause: 'adapter_not_found' })
    clock.advance(1_000)
    await refusal(() => cache.lease(identity).ready)
    expect(store.gets).toHaveLength(2)
    // Another adapter is not held up.
    await cache.lease(await register(5)).ready
  })

  it('W12 a lease released while arriving does not disturb the one that follows', async () => {
    const { cache, store, register } = await cacheUnderTest()
    const identity = await register(4)
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let calls = 0
    store.onGet = () => gates[calls++]?.promise ?? Promise.resolve()
    const first = cache.lease(identity)
    await until(() => calls === 1)
    first.release()
    const second = cache.lease(identity)
    await until(() => calls === 2)
    gates[1]?.resolve()
    gates[0]?.resolve()
    await second.ready
    expect([first.state, second.state]).toEqual(['released', 'ready'])
    expect(cache.residency(identity.digest)).toMatchObject({ state: 'resident', tier: 'ram', leaseCount: 1 })
  })

  it('never takes the process down when nobody awaits its end', async () => {
    const { cache } = await cacheUnderTest()
    const lease = cache.lease({ digest: digestFor('nowhere'), name: 'nowhere' })
    await until(() => lease.state === 'failed')
    cache.lease({ digest: digestFor('elsewhere'), name: 'elsewhere' }).release()
  })

  it('says why an unfit adapter is refused, and the next is served', async () => {
    const { cache, store, register } = await cacheUnderTest()
    const identity = await register(4)
    const { weights } = storedAdapterKeys(identity.digest)
    store.objects.set(weights, (store.objects.get(weights) ?? new Uint8Array()).slice(0, 100))
    const error = await refusal(() => cache.lease(identity).ready)
    expect([error.code, error.message]).toEqual(['source_unavailable', expect.stringContaining('publish it again')])
    await cache.lease(await register(5)).ready
  })

  it('waits for room while leased adapters fill the RAM budget', async () => {
    const { cache, register } = await cacheUnderTest({ ramBytes: 1 })
    const [one, two] = [await register(1), await register(2)]
    const first = cache.lease(one)
    await first.ready
    const second = cache.lease(two)
    await until(() => cache.residency(two.digest).state === 'arriving')
    await new Promise((done) => setImmediate(done))
    expect(second.state).toBe('arriving')
    first.release()
    await second.ready
    // Written to disk beside; closing waits for it.
    await cache.close()
    expect(cache.residency(one.digest)).toMatchObject({ tier: 'disk' })
  })
})

describe('the adapter cache', () => {
  it('reads a packed file instead of the origin after a restart', async () => {
    const first = await cacheUnderTest()
    const identity = await first.register(4)
    const lease = first.cache.lease(identity)
    await lease.ready
    const before = lease.packed
    await first.cache.close()
    const second = await cacheUnderTest({ cacheDir: first.cacheDir })
    expect(second.cache.residency(identity.digest)).toMatchObject({ state: 'resident', tier: 'disk', leaseCount: 0 })
    const again = second.cache.lease(identity)
    await again.ready
    expect(again.packed).toEqual(before)
    expect(second.store.gets).toEqual([])
  })

  it('D04 fetches again what is damaged on disk', async () => {
    const first = await cacheUnderTest()
    await first.cache.lease(await first.register(4)).ready
    await first.cache.close()
    const [name = ''] = (await readdir(first.cacheDir, { recursive: true })).filter((path) => path.endsWith('.qvr'))
    await truncate(join(first.cacheDir, name), 500)
    const second = await cacheUnderTest({ cacheDir: first.cacheDir })
    const identity = await second.register(4)
    await second.cache.lease(identity).ready
    expect(second.store.gets).toHaveLength(2)
    expect(second.logged).toContain('warn: a packed adapter on disk is damaged and is discarded')
  })

  it('serves without a disk tier', async () => {
    const { cache, register, cacheDir } = await cacheUnderTest({ diskBytes: 0 })
    await cache.lease(await register(4)).ready
    await cache.close()
    expect((await readdir(cacheDir, { recursive: true })).filter((path) => path.endsWith('.qvr'))).toEqual([])
  })

  it('refuses a rank that was packed before the maximum was lowered', async () => {
    const first = await cacheUnderTest()
    const identity = await first.register(4)
    await first.cache.lease(identity).ready
    await first.cache.close()
    const second = await cacheUnderTest({ cacheDir: first.cacheDir, maxRank: 1 })
    await second.register(4)
    const error = await refusal(() => second.cache.lease(identity).ready)
    expect(error.message).toMatch(/rank 2 exceeds the maximum rank 1/)
  })

  it('resolves registered adapters by syntax alone, and local ones by content', async () => {
    const { cache, store, place } = await cacheUnderTest()
    const digest = digestFor('x')
    expect(await cache.resolve({ kind: 'registered', name: 'acme/x', digest })).toEqual({ digest, name: 'acme/x' })
    expect((await refusal(() => cache.resolve({ kind: 'registered', name: 'x', digest: 'nope' }))).code).toBe('invalid_request')
    expect(store.gets).toEqual([])
    await place('mine', { alpha: 3 })
    const identity = await cache.resolve({ kind: 'local', path: 'mine' })
    const lease = cache.lease(identity)
    await lease.ready
    expect([lease.name, lease.packed.digest]).toEqual(['mine', identity.digest])
    expect((await refusal(() => cache.resolve({ kind: 'local', path: 'other' }))).code).toBe('adapter_not_found')
  })

  it('O12 keeps a running lease on its digest when the local folder changes', async () => {
    const { cache, place } = await cacheUnderTest()
    await place('mine', { alpha: 3 })
    const old = cache.lease(await cache.resolve({ kind: 'local', path: 'mine' }))
    await old.ready
    const before = old.packed
    await place('mine', { alpha: 5 })
    const fresh = cache.lease(await cache.resolve({ kind: 'local', path: 'mine' }))
    await fresh.ready
    expect(fresh.digest).not.toBe(old.digest)
    expect(old.packed).toBe(before)
    expect(fresh.packed.modules[0]?.b).not.toEqual(before.modules[0]?.b)
  })

  it('finds a registered adapter in the store after a local folder of the same content has gone', async () => {
    const { cache, register, place, localRoot } = await cacheUnderTest({ diskBytes: 0 })
    const registered = await register(4)
    await place('mine', { alpha: 4 })
    const local = await cache.resolve({ kind: 'local', path: 'mine' })
    expect(local.digest).toBe(registered.digest)
    await rm(join(localRoot, 'mine'), { recursive: true })
    const lease = cache.lease(registered)
    await lease.ready
    lease.release()
  })

  it('says of a local adapter whose folder has gone what is wrong there, not that the store lacks it', async () => {
    const { cache, place, localRoot } = await cacheUnderTest({ diskBytes: 0 })
    await place('mine', { alpha: 4 })
    const local = await cache.resolve({ kind: 'local', path: 'mine' })
    await rm(join(localRoot, 'mine'), { recursive: true })
    const lease = cache.lease(local)
    await expect(lease.ready).rejects.toThrow('there is no adapter at "mine"')
    lease.release()
  })

  it('S13 a local folder with a layer missing is refused, and nothing of it stays', async () => {
    const { cache, place, cacheDir } = await cacheUnderTest()
    await place('bad', { layers: [0] })
    const identity = await cache.resolve({ kind: 'local', path: 'bad' })
    const error = await refusal(() => cache.lease(identity).ready)
    expect([error.code, error.message]).toEqual([
      'adapter_invalid',
      expect.stringContaining('model.layers.1.self_attn.q_proj is targeted'),
    ])
    await cache.close()
    expect((await readdir(cacheDir, { recursive: true })).filter((path) => path.endsWith('.qvr'))).toEqual([])
  })

  it('puts an adapter into a slot, and keeps its weights until the copy ends', async () => {
    const { cache, register, device } = await cacheUnderTest({ ramBytes: 1 })
    const identity = await register(4)
    const lease = cache.lease(identity)
    await lease.ready
    const gate = Promise.withResolvers<void>()
    device.duringCopy = () => gate.promise
    const load = cache.loadIntoSlot(lease, slot(1))
    expect(cache.residency(identity.digest)).toEqual({ state: 'arriving', tier: 'device', startedAtMs: 0 })
    lease.release()
    gate.resolve()
    await load
    expect([cache.device.slotOf(identity.digest), device.contents[1]]).toEqual([1, identity.digest])
    expect(cache.residency(identity.digest)).toMatchObject({ state: 'resident', tier: 'device', leaseCount: 0 })
  })

  it('W05 frees the slot when the device cannot take an adapter', async () => {
    const { cache, register, device } = await cacheUnderTest()
    const lease = cache.lease(await register(4))
    await lease.ready
    device.duringCopy = async () => {
      throw new ServingError('adapter_unavailable', 'device memory is full')
    }
    expect((await refusal(() => cache.loadIntoSlot(lease, slot(0)))).message).toBe('device memory is full')
    expect(cache.device.snapshot()[0]).toMatchObject({ state: 'free' })
    expect(lease.state).toBe('ready')
  })

  it('fails what arrives when it is closed, and takes no more', async () => {
    const { cache, store, register } = await cacheUnderTest()
    const identity = await register(4)
    let called = false
    store.onGet = async (_, signal) => {
      called = true
      await new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
    }
    const lease = cache.lease(identity)
    await until(() => called)
    await cache.close()
    expect((await refusal(() => lease.ready)).code).toBe('draining')
    expect(cache.lease(identity).state).toBe('failed')
  })

  it('D02 goes on when the cache folder disappears under it', async () => {
    const { cache, register, cacheDir } = await cacheUnderTest()
    await rm(cacheDir, { recursive: true })
    await cache.lease(await register(4)).ready
    await cache.close()
  })
})
