/** A worker's adapters: the real device and RAM tiers and their policy, with loads that take simulated time. */
import assert from 'node:assert/strict'
import { type AdapterDigest, BASE_SLOT, type Clock, type HeldPresence, type SlotIndex } from '@quiver/protocol'
import { type DeviceOutlook, deviceOutlook } from '../../packages/cache/src/device-outlook.ts'
import type { PackedAdapter, SlotLease, SlotView } from '../../packages/cache/src/index.ts'
import { EvictionPolicy } from '../../packages/cache/src/policy/eviction-policy.ts'
import { DeviceSlots } from '../../packages/cache/src/tiers/device-tier.ts'
import { RamTier } from '../../packages/cache/src/tiers/ram-tier.ts'
import { type DeviceModel, loadMs } from './device-model.ts'

export interface TiersPlan {
  readonly model: DeviceModel
  readonly slots: number
  originFails(): boolean
  readonly ramBytes: number
  /** What the disk holds; it has room for everything. */
  readonly disk: Set<AdapterDigest>
  /** Copies into slots, and loads by where from; counted up. */
  readonly counts: { device: number; disk: number; origin: number }
}

export interface TiersDeps {
  readonly clock: Clock
  after(delayMs: number, action: () => void | Promise<void>): void
  onChange(digest: AdapterDigest, presence: HeldPresence | 'absent'): void
  /** An adapter is where somebody waited for it. */
  onArrival(): void
}

/** One request's right to an adapter, from its coming to its end. */
export interface Want {
  /** In RAM, and kept there. */
  readonly isReady: boolean
  readonly slot: SlotLease | undefined
  lease(slot: SlotIndex, digest: AdapterDigest): void
  release(): void
}

interface Flight {
  readonly wants: Set<{ arrived(packed: PackedAdapter): void; failed(): void }>
}

export class SimulatedTiers {
  readonly #plan: TiersPlan
  readonly #deps: TiersDeps
  readonly #policy: EvictionPolicy
  readonly #device: DeviceSlots
  readonly #ram: RamTier
  readonly #flights = new Map<AdapterDigest, Flight>()
  readonly #copies = new Map<SlotIndex, () => void>()
  readonly #copiesOf = new Map<AdapterDigest, number>()

  constructor(plan: TiersPlan, deps: TiersDeps) {
    this.#plan = plan
    this.#deps = deps
    this.#policy = new EvictionPolicy(deps.clock)
    this.#device = new DeviceSlots({
      memory: {
        slots: plan.slots,
        loadAdapter: (slot) => new Promise((resolve) => this.#copies.set(slot, resolve)),
        clearSlot: () => {},
      },
      clock: deps.clock,
      scoreOf: (digest, bytes) => this.#policy.score({ digest, bytes, from: 'ram', space: 1 }),
      noteCopy: (bytes, tookMs) => this.#policy.noteReload('ram', bytes, tookMs),
    })
    this.#ram = new RamTier(plan.ramBytes, ({ digest, bytes }) =>
      this.#policy.score({ digest, bytes, from: 'disk', space: bytes }),
    )
  }

  get disk(): Set<AdapterDigest> {
    return this.#plan.disk
  }

  slots(): readonly SlotView[] {
    return this.#device.snapshot()
  }

  isInDevice(digest: AdapterDigest): boolean {
    return this.#device.slotOf(digest) !== undefined
  }

  /** How often it was put into a slot since the start. */
  copiesOf(digest: AdapterDigest): number {
    return this.#copiesOf.get(digest) ?? 0
  }

  /** Whose weights a slot has; undefined for the base model. */
  inSlot(slot: SlotIndex): AdapterDigest | undefined {
    const view = slot === BASE_SLOT ? undefined : this.slots()[slot]
    return view?.state === 'resident' ? view.digest : undefined
  }

  /** A request asks for an adapter; `onFailure` when it cannot be had. */
  want(digest: AdapterDigest, bytes: number, onFailure: () => void): Want {
    this.#policy.noteUse(digest)
    let held = this.#ram.hold(digest) !== undefined
    let slot: SlotLease | undefined
    const waiter = {
      arrived: (packed: PackedAdapter) => {
        this.#ram.holdNew(packed)
        held = true
      },
      failed: onFailure,
    }
    if (!held) this.#fly(digest, bytes).wants.add(waiter)
    return {
      get isReady() {
        return held
      },
      get slot() {
        return slot
      },
      lease: (index, leased) => {
        slot = this.#device.lease(index, leased)
      },
      release: () => {
        slot?.release()
        this.#flights.get(digest)?.wants.delete(waiter)
        if (held) this.#ram.drop(digest)
        held = false
      },
    }
  }

  /** Puts an adapter from RAM into a slot. */
  copy(digest: AdapterDigest, slot: SlotIndex): void {
    const packed = this.#ram.hold(digest)
    assert(packed !== undefined, 'a load is planned for what is in RAM')
    const evicted = this.inSlot(slot)
    const copied = this.#device.load(slot, packed)
    this.#plan.counts.device += 1
    this.#copiesOf.set(digest, this.copiesOf(digest) + 1)
    if (evicted !== undefined) this.#deps.onChange(evicted, this.#below(evicted))
    this.#deps.onChange(digest, 'arriving')
    this.#deps.after(loadMs(this.#plan.model, 'ram', packed.bytes), async () => {
      this.#copies.get(slot)?.()
      this.#copies.delete(slot)
      await copied
      this.#ram.drop(digest)
      this.#deps.onChange(digest, 'device')
      this.#deps.onArrival()
    })
  }

  /** Everything that is held, in its fastest tier. */
  adapters(): { digest: AdapterDigest; presence: HeldPresence }[] {
    const found = new Map<AdapterDigest, HeldPresence>()
    for (const digest of this.#plan.disk) found.set(digest, 'disk')
    for (const digest of this.#ram.digests()) found.set(digest, 'ram')
    for (const digest of this.#flights.keys()) found.set(digest, 'arriving')
    for (const digest of this.#device.digests()) found.set(digest, this.isInDevice(digest) ? 'device' : 'arriving')
    return [...found].map(([digest, presence]) => ({ digest, presence }))
  }

  load(): DeviceOutlook {
    return deviceOutlook({
      slots: this.slots(),
      reload: this.#plan.model.loads,
      requestsPerSecond: (digest) => this.#policy.requestsPerSecond(digest),
      from: () => 'ram',
      bytesOf: (digest) => this.#bytesOf(digest),
    })
  }

  /** No lease is out, and nothing is on its way. */
  assertIdle(): void {
    assert.equal(this.#ram.heldBytes, 0, 'nothing is held in RAM')
    assert.equal(this.#copies.size, 0, 'nothing is being copied')
    for (const slot of this.slots()) if (slot.state === 'resident') assert.equal(slot.leaseCount, 0, 'no slot is leased')
    for (const { wants } of this.#flights.values()) assert.equal(wants.size, 0, 'nobody waits for a load')
  }

  #bytesOf(digest: AdapterDigest): number {
    const presence = this.#device.presence(digest)
    return presence?.state === 'resident' ? presence.bytes : 0
  }

  #below(digest: AdapterDigest): HeldPresence {
    return this.#ram.peek(digest) === undefined ? 'disk' : 'ram'
  }

  #fly(digest: AdapterDigest, bytes: number): Flight {
    const underWay = this.#flights.get(digest)
    if (underWay !== undefined) return underWay
    const flight: Flight = { wants: new Set() }
    const from = this.#plan.disk.has(digest) ? 'disk' : 'origin'
    this.#plan.counts[from] += 1
    this.#flights.set(digest, flight)
    this.#deps.onChange(digest, 'arriving')
    this.#deps.after(loadMs(this.#plan.model, from, bytes), () => {
      this.#flights.delete(digest)
      if (from === 'origin' && this.#plan.originFails()) {
        for (const want of flight.wants) want.failed()
        this.#deps.onChange(digest, 'absent')
        this.#deps.onArrival()
        return
      }
      this.#plan.disk.add(digest)
      for (const want of flight.wants) want.arrived({ digest, dtype: 'f32', rank: 16, modules: [], bytes })
      // Who wanted it has left: it stays on the disk.
      if (flight.wants.size === 0) this.#deps.onChange(digest, 'disk')
      this.#deps.onArrival()
    })
    return flight
  }
}
