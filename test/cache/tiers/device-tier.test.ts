import type { SlotIndex } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { DeviceSlots } from '../../../packages/cache/src/tiers/device-tier.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryDevice } from '../../support/memory-device.ts'
import { digestFor, hollowAdapter } from '../../support/packed-adapters.ts'

const slot = (index: number): SlotIndex => index as SlotIndex
const a = hollowAdapter('a', 10)
const b = hollowAdapter('b', 20)

function prepared() {
  const device = new MemoryDevice(2)
  const clock = new ManualClock()
  return { device, clock, tier: new DeviceSlots({ memory: device, clock, scoreOf: (_, bytes) => bytes, noteCopy: () => {} }) }
}

describe('the device tier', () => {
  it('shows a slot free, then loading, then resident, with one new generation', async () => {
    const { device, clock, tier } = prepared()
    expect(tier.snapshot()[0]).toEqual({ state: 'free', slot: 0, generation: 0 })
    const gate = Promise.withResolvers<void>()
    device.duringCopy = () => gate.promise
    clock.advance(5)
    const load = tier.load(slot(0), a)
    expect(tier.snapshot()[0]).toEqual({ state: 'loading', slot: 0, generation: 1, digest: a.digest })
    expect([tier.slotOf(a.digest), tier.presence(a.digest)]).toEqual([
      undefined,
      { state: 'loading', digest: a.digest, startedAtMs: 5 },
    ])
    gate.resolve()
    await load
    expect(tier.snapshot()[0]).toEqual({
      state: 'resident',
      slot: 0,
      generation: 1,
      digest: a.digest,
      leaseCount: 0,
      lastUsedMs: 5,
      keepScore: a.bytes,
    })
    expect(tier.slotOf(a.digest)).toBe(0)
  })

  it('gives a slot to another adapter when nothing uses it', async () => {
    const { tier, device } = prepared()
    await tier.load(slot(0), a)
    await tier.load(slot(0), b)
    expect([tier.slotOf(a.digest), tier.slotOf(b.digest), device.contents[0]]).toEqual([undefined, 0, b.digest])
    expect(tier.snapshot()[0]?.generation).toBe(2)
  })

  it('W12 never evicts a leased slot', async () => {
    const { tier } = prepared()
    await tier.load(slot(0), a)
    const lease = tier.lease(slot(0), a.digest)
    await expect(tier.load(slot(0), b)).rejects.toThrow(/leased slot is never evicted/)
    expect(tier.slotOf(a.digest)).toBe(0)
    lease.release()
    await tier.load(slot(0), b)
    expect(tier.slotOf(b.digest)).toBe(0)
  })

  it('W12 counts a lease that is released twice once', async () => {
    const { tier, clock } = prepared()
    await tier.load(slot(1), a)
    const [first, second] = [tier.lease(slot(1), a.digest), tier.lease(slot(1), a.digest)]
    clock.advance(7)
    first.release()
    first.release()
    expect(tier.snapshot()[1]).toMatchObject({ leaseCount: 1, lastUsedMs: 7 })
    second.release()
    expect(tier.snapshot()[1]).toMatchObject({ leaseCount: 0 })
  })

  it('W13 leases a slot only for the adapter that is in it', async () => {
    const { tier } = prepared()
    expect(() => tier.lease(slot(0), a.digest)).toThrow(/resident in it/)
    await tier.load(slot(0), a)
    expect(() => tier.lease(slot(0), b.digest)).toThrow(/resident in it/)
    expect(tier.lease(slot(0), a.digest)).toMatchObject({ slot: 0, generation: 1, digest: a.digest })
  })

  it('frees and zeroes a slot whose load failed', async () => {
    const { tier, device } = prepared()
    device.duringCopy = async () => {
      throw new Error('out of memory')
    }
    await expect(tier.load(slot(0), a)).rejects.toThrow('out of memory')
    expect(tier.snapshot()[0]).toEqual({ state: 'free', slot: 0, generation: 1 })
    expect(device.cleared).toEqual([0])
    device.duringCopy = async () => {}
    await tier.load(slot(1), a)
    expect(tier.slotOf(a.digest)).toBe(1)
  })

  it('refuses a slot that is loading, and an adapter that is in another slot', async () => {
    const { tier, device } = prepared()
    const gate = Promise.withResolvers<void>()
    device.duringCopy = () => gate.promise
    const load = tier.load(slot(0), a)
    await expect(tier.load(slot(0), b)).rejects.toThrow(/slot that loads/)
    await expect(tier.load(slot(1), a)).rejects.toThrow(/one slot at most/)
    gate.resolve()
    await load
    await expect(tier.load(slot(1), a)).rejects.toThrow(/one slot at most/)
    expect(() => tier.lease(slot(9), digestFor('a'))).toThrow(/no slot 9/)
  })
})
