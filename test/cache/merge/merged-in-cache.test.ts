import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { AdapterIdentity } from '@quiver/cache'
import { storedAdapterKeys } from '@quiver/cache/store'
import type { MergedRef, SlotIndex } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { type CacheUnderTest, cacheUnderTest } from '../../support/cache-under-test.ts'
import { digestFor } from '../../support/packed-adapters.ts'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const refTo = ({ name, digest }: AdapterIdentity) => ({ kind: 'registered', name, digest }) as const
const merge = (members: readonly AdapterIdentity[], more: Partial<MergedRef> = {}): MergedRef => ({
  kind: 'merged',
  members: members.map((member) => ({ ref: refTo(member), weight: 0.5 })),
  strategy: 'linear',
  density: 1,
  sign: 'total',
  ...more,
})

/** Lets pending promises and file operations run until `holds`, without waiting for time. */
async function until(holds: () => boolean): Promise<void> {
  for (let turns = 0; !holds(); turns++) {
    if (turns > 100_000) throw new Error('never happened')
    await new Promise((done) => setImmediate(done))
  }
}

/** Holds every `get` up until `open` is called. */
function holdStore({ store }: CacheUnderTest): () => void {
  const gate = Promise.withResolvers<void>()
  store.onGet = () => gate.promise
  return gate.resolve
}

describe('a merged adapter', () => {
  test('is kept under a digest of its own in RAM, a slot and on disk, and its members are not', async () => {
    const under = await cacheUnderTest()
    const { cache, register, device } = under
    const [one, two] = [await register(4), await register(8)]
    const identity = await cache.resolve(merge([one, two]))
    expect([identity.name, one.digest, two.digest]).not.toContain(identity.digest)
    expect(identity.name).toBe('adapter-4,adapter-8')
    const lease = cache.lease(identity)
    await lease.ready
    expect([lease.packed.digest, lease.packed.rank]).toEqual([identity.digest, 2])
    expect(cache.residency(identity.digest)).toMatchObject({ state: 'resident', tier: 'ram', leaseCount: 1 })
    expect([one, two].map(({ digest }) => cache.residency(digest))).toEqual([{ state: 'absent' }, { state: 'absent' }])
    await cache.loadIntoSlot(lease, 1 as SlotIndex)
    expect(device.contents[1]).toBe(identity.digest)
    lease.release()
    await cache.close()
  })

  test('comes from the disk after a restart, byte by byte, even when its members are gone', async () => {
    const cacheDir = await temporaryFolder()
    const first = await cacheUnderTest({ cacheDir })
    const ref = merge([await first.register(4), await first.register(8)], { strategy: 'dare_ties', density: 0.5 })
    const lease = first.cache.lease(await first.cache.resolve(ref))
    await lease.ready
    const before = lease.packed.modules.map(({ a, b }) => [...a, ...b])
    lease.release()
    await first.cache.close()
    const second = await cacheUnderTest({ cacheDir })
    const again = second.cache.lease(await second.cache.resolve(ref))
    await again.ready
    expect(again.packed.modules.map(({ a, b }) => [...a, ...b])).toEqual(before)
    expect(second.store.gets).toEqual([])
    // And made anew on a worker with another disk it is the same.
    const third = await cacheUnderTest()
    await third.register(4)
    await third.register(8)
    const elsewhere = third.cache.lease(await third.cache.resolve(ref))
    await elsewhere.ready
    expect(elsewhere.packed.modules.map(({ a, b }) => [...a, ...b])).toEqual(before)
  })

  test('a hundred leases of one cold merge cost one reading of each member', async () => {
    const { cache, store, register } = await cacheUnderTest()
    const identity = await cache.resolve(merge([await register(4), await register(8), await register(4)]))
    const leases = Array.from({ length: 100 }, () => cache.lease(identity))
    await Promise.all(leases.map(({ ready }) => ready))
    expect(store.gets).toHaveLength(4)
    expect(new Set(leases.map(({ packed }) => packed)).size).toBe(1)
    for (const lease of leases) lease.release()
    expect(cache.residency(identity.digest)).toMatchObject({ leaseCount: 0 })
  })

  test('two merges at once read the member that they share once', async () => {
    const under = await cacheUnderTest()
    const { cache, store, register } = under
    const [one, two, three] = [await register(4), await register(8), await register(2)]
    const open = holdStore(under)
    const leases = [cache.lease(await cache.resolve(merge([one, two]))), cache.lease(await cache.resolve(merge([two, three])))]
    await until(() => store.gets.length === 3)
    open()
    await Promise.all(leases.map(({ ready }) => ready))
    expect(store.gets.filter((key) => key === storedAdapterKeys(two.digest).weights)).toHaveLength(1)
    expect(new Set(leases.map(({ digest }) => digest)).size).toBe(2)
  })

  test('the last lease that is released aborts the reading of the members, and says nothing against them', async () => {
    const under = await cacheUnderTest()
    const { cache, store, register, logged } = under
    const [one, two] = [await register(4), await register(8)]
    const identity = await cache.resolve(merge([one, two]))
    const signals: (AbortSignal | undefined)[] = []
    const hold = Promise.withResolvers<void>()
    store.onGet = (_, signal) => {
      signals.push(signal)
      return hold.promise
    }
    const leases = [cache.lease(identity), cache.lease(identity)]
    await until(() => signals.length === 2)
    leases[0]?.release()
    expect(signals.map((signal) => signal?.aborted)).toEqual([false, false])
    leases[1]?.release()
    await until(() => signals.every((signal) => signal?.aborted === true))
    hold.resolve()
    const again = cache.lease(identity)
    await again.ready
    expect(again.state).toBe('ready')
    expect(logged.filter((line) => line.startsWith('warn'))).toEqual([])
  })

  test('merges do not hold up loads, nor wait for more than their members', async () => {
    const under = await cacheUnderTest()
    const { cache, store, register } = under
    const [one, two, other] = [await register(4), await register(8), await register(2)]
    const hold = Promise.withResolvers<void>()
    store.onGet = async (key) => {
      if (!key.includes(other.digest)) await hold.promise
    }
    const merges = await Promise.all(
      Array.from({ length: 30 }, async (_, at) => {
        const ref = merge([one, two])
        const weighted = { ...ref, members: ref.members.map((member) => ({ ...member, weight: at + 1 })) }
        return cache.lease(await cache.resolve(weighted))
      }),
    )
    const plain = cache.lease(other)
    await plain.ready
    hold.resolve()
    await Promise.all(merges.map(({ ready }) => ready))
    expect(merges.every(({ state }) => state === 'ready')).toBe(true)
  })
})

describe('when a member cannot be had', () => {
  test('the merge fails with its code and its name, and both are let rest for a while', async () => {
    const { cache, store, clock, register } = await cacheUnderTest()
    const one = await register(4)
    const missing = { name: 'acme/gone', digest: digestFor('gone') }
    const identity = await cache.resolve(merge([one, missing]))
    const error = await refusal(() => cache.lease(identity).ready)
    expect([error.code, error.message]).toEqual([
      'adapter_not_found',
      `"acme/gone" cannot be merged: adapter ${missing.digest} is not in the store`,
    ])
    expect(cache.residency(identity.digest)).toMatchObject({ state: 'quarantined', cause: 'adapter_not_found' })
    expect(cache.residency(missing.digest)).toMatchObject({ state: 'quarantined', cause: 'adapter_not_found' })
    expect(cache.residency(one.digest)).toEqual({ state: 'absent' })
    const asked = store.gets.length
    // Another merge with the same missing member does not ask the store for it again.
    const another = await cache.resolve(merge([missing, missing]))
    expect((await refusal(() => cache.lease(another).ready)).code).toBe('adapter_not_found')
    expect(store.gets).toHaveLength(asked)
    clock.advance(60_000)
    await refusal(() => cache.lease(identity).ready)
    expect(store.gets.length).toBeGreaterThan(asked)
  })

  test('T02: each who asks for the merge reads their own names in its failure, while it is tried and while it rests', async () => {
    const { cache, register } = await cacheUnderTest()
    const one = await register(4)
    const missing = { name: 'acme/secret-plans', digest: digestFor('gone') }
    const theirs = await cache.resolve(merge([one, missing, missing]))
    // The same weights under the names of another tenant: the same digest, and the same remembered failure.
    const ours = await cache.resolve(merge([{ ...one, name: 'globex/a' }, ...Array(2).fill({ ...missing, name: 'globex/b' })]))
    expect(ours.digest).toBe(theirs.digest)
    const both = [cache.lease(theirs), cache.lease(ours)].map(({ ready }) => refusal(() => ready))
    const [first, second] = await Promise.all(both)
    const resting = await refusal(() => cache.lease(ours).ready)
    const text = (name: string) => `"${name}" cannot be merged: adapter ${missing.digest} is not in the store`
    expect([first?.message, second?.message, resting.message]).toEqual([
      text('acme/secret-plans'),
      text('globex/b'),
      text('globex/b'),
    ])
    expect(JSON.stringify([second?.context, resting.context])).not.toContain('secret')
  })

  test('a member that does not fit the base model is named', async () => {
    const { cache, place, register } = await cacheUnderTest()
    await place('wrong', { config: { use_dora: true } })
    const one = await register(4)
    const ref = {
      ...merge([one]),
      members: [
        { ref: refTo(one), weight: 1 },
        { ref: { kind: 'local', path: 'wrong' }, weight: 1 },
      ],
    }
    const error = await refusal(() => cache.resolve(ref as MergedRef))
    expect([error.code, error.message]).toEqual(['adapter_invalid', expect.stringMatching(/^"wrong" cannot be merged: .*DoRA/)])
  })

  test('a folder outside of the roots is refused when the merge is resolved', async () => {
    const { cache } = await cacheUnderTest()
    const members = [{ ref: { kind: 'local', path: '/etc' } as const, weight: 1 }]
    const error = await refusal(() => cache.resolve({ ...merge([]), members }))
    expect([error.code, error.message]).toEqual(['forbidden', expect.stringMatching(/^"\/etc" cannot be merged: /)])
  })
})

test('a local member that is changed makes another merge, and one that is gone makes none', async () => {
  const { cache, place, localRoot } = await cacheUnderTest()
  await place('here', { alpha: 4 })
  const ref: MergedRef = { ...merge([]), members: [{ ref: { kind: 'local', path: 'here' }, weight: 1 }] }
  const before = await cache.resolve(ref)
  await place('here', { alpha: 8, value: () => 0.5 })
  expect((await cache.resolve(ref)).digest).not.toBe(before.digest)
  await rm(join(localRoot, 'here'), { recursive: true })
  expect((await refusal(() => cache.resolve(ref))).code).toBe('adapter_not_found')
})
