import assert from 'node:assert/strict'
import type { AdapterIdentity, AdapterLease, SlotLease } from '@quiver/cache'
import type { SlotIndex } from '@quiver/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CacheUnderTest, cacheUnderTest } from '../support/cache-under-test.ts'
import { randomSeed } from '../support/random-seed.ts'

const ADAPTERS = 6
const SLOTS = 3

const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('lease' as const), adapter: fc.nat(ADAPTERS) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), pick: fc.nat(1_000) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('load' as const),
      pick: fc.nat(1_000),
      slot: fc.nat(SLOTS - 1),
      fails: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('use' as const), adapter: fc.nat(ADAPTERS - 1) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('finish' as const), pick: fc.nat(1_000) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('turns' as const), count: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.nat(5_000) }) },
)
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never

/** A caller who keeps to the rules of the cache, and the checks that must hold after each of its steps. */
class Caller {
  readonly #under: CacheUnderTest
  readonly #identities: readonly AdapterIdentity[]
  readonly #leases = new Set<AdapterLease>()
  readonly #slotLeases = new Set<SlotLease>()
  readonly #loads = new Set<Promise<void>>()

  constructor(under: CacheUnderTest, identities: readonly AdapterIdentity[]) {
    this.#under = under
    this.#identities = identities
  }

  async run(step: Command): Promise<void> {
    const { cache, clock } = this.#under
    if (step.kind === 'lease') this.#leases.add(cache.lease(this.#identities[step.adapter] ?? assert.fail()))
    else if (step.kind === 'release') this.#release(nth(this.#leases, step.pick), step.pick % 2 === 0)
    else if (step.kind === 'load') this.#load(step)
    else if (step.kind === 'use') this.#use(this.#identities[step.adapter] ?? assert.fail())
    else if (step.kind === 'finish') this.#finish(nth(this.#slotLeases, step.pick))
    else if (step.kind === 'time') clock.advance(step.ms)
    else for (let i = 0; i < step.count; i++) await new Promise((done) => setImmediate(done))
    this.check()
  }

  /** Ends everything; counts must be back at 0. */
  async end(): Promise<void> {
    for (const slotLease of this.#slotLeases) slotLease.release()
    this.#slotLeases.clear()
    await Promise.allSettled(this.#loads)
    for (const lease of this.#leases) lease.release()
    this.#leases.clear()
    this.check()
    for (const view of this.#under.cache.device.snapshot()) assert(view.state !== 'resident' || view.leaseCount === 0)
    for (const { digest } of this.#identities) {
      const residency = this.#under.cache.residency(digest)
      assert(residency.state !== 'resident' || residency.leaseCount === 0, 'counts return to 0')
    }
    await this.#under.cache.close()
  }

  check(): void {
    const { cache, device } = this.#under
    for (const lease of this.#leases)
      if (lease.state === 'ready') assert.equal(lease.packed.digest, lease.digest, 'a lease keeps its weights')
    for (const { slot, generation, digest } of this.#slotLeases) {
      const view = cache.device.snapshot()[slot]
      assert(
        view?.state === 'resident' && view.digest === digest && view.generation === generation,
        'a leased slot keeps its adapter',
      )
      assert.equal(device.contents[slot], digest, 'the device holds what the tier says')
    }
    for (const view of cache.device.snapshot()) {
      if (view.state !== 'resident') continue
      const held = [...this.#slotLeases].filter(({ slot }) => slot === view.slot).length
      assert.equal(view.leaseCount, held, 'slot leases are counted')
    }
  }

  #release(lease: AdapterLease | undefined, twice: boolean): void {
    if (lease === undefined) return
    lease.release()
    if (twice) lease.release()
    this.#leases.delete(lease)
  }

  #load({ pick, slot, fails }: Extract<Command, { kind: 'load' }>): void {
    const { cache, device } = this.#under
    const lease = nth(new Set([...this.#leases].filter(({ state }) => state === 'ready')), pick)
    const view = cache.device.snapshot()[slot]
    const isElsewhere = cache.device.snapshot().some((other) => other.state !== 'free' && other.digest === lease?.digest)
    if (lease === undefined || isElsewhere || view?.state === 'loading' || (view?.state === 'resident' && view.leaseCount > 0))
      return
    device.duringCopy = async () => {
      await new Promise((done) => setImmediate(done))
      if (fails) throw new Error('no memory')
    }
    const load = cache.loadIntoSlot(lease, slot as SlotIndex).catch((thrown: Error) => assert.equal(thrown.message, 'no memory'))
    this.#loads.add(load)
  }

  #use({ digest }: AdapterIdentity): void {
    const slot = this.#under.cache.device.slotOf(digest)
    if (slot !== undefined) this.#slotLeases.add(this.#under.cache.device.lease(slot, digest))
  }

  #finish(lease: SlotLease | undefined): void {
    if (lease === undefined) return
    lease.release()
    lease.release()
    this.#slotLeases.delete(lease)
  }
}

function nth<T>(set: ReadonlySet<T>, pick: number): T | undefined {
  return [...set][set.size === 0 ? 0 : pick % set.size]
}

describe('the adapter cache under random use', () => {
  it('I2 W12 never loses what is leased, and all counts return to 0', async () => {
    const seed = randomSeed('adapter cache commands')
    const property = fc.asyncProperty(
      fc.array(command, { minLength: 10, maxLength: 60 }),
      fc.constantFrom(1, 2_000, 1e9),
      async (steps, ramBytes) => {
        const under = await cacheUnderTest({ ramBytes, diskBytes: 3_000 }, SLOTS)
        const identities = await Promise.all(Array.from({ length: ADAPTERS }, (_, i) => under.register(i + 1)))
        // One that is in no store, so that failures and back-off are part of the play.
        const missing = { digest: (await cacheMissing(under)).digest, name: 'missing' }
        const caller = new Caller(under, [...identities, missing])
        for (const step of steps) await caller.run(step)
        await caller.end()
      },
    )
    await fc.assert(property, { numRuns: 60, seed, endOnFailure: false })
    expect(seed).toBeDefined()
  })
})

async function cacheMissing({ register, store }: CacheUnderTest): Promise<AdapterIdentity> {
  const identity = await register(99)
  for (const key of [...store.objects.keys()]) if (key.includes(identity.digest)) store.objects.delete(key)
  return identity
}
