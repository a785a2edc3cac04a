/** A worker's adapters: the real device and RAM tiers and their policy, with loads that take simulated time. */
import assert from 'node:assert/strict'
import { type AdapterDigest, BASE_SLOT, type Clock, type HeldPresence, type SlotIndex } from '@quiver/protocol'
import { type DeviceOutlook, deviceOutlook } from '../../packages/cache/src/device-outlook.ts'
import type { PackedAdapter, SlotLease, SlotView } from '../../packages/cache/src/index.ts'
import { EvictionPolicy } from '../../packages/cache/src/policy/eviction-policy.ts'
import { DeviceSlots } from '../../packages/cache/src/tiers/device-tier.ts'
import { RamTier } from '../../packages/cache/src/tiers/ram-tier.ts'
import type { Content, Contents } from './contents.ts'
import { type DeviceModel, loadMs } from './device-model.ts'

export interface TiersPlan {
  readonly model: DeviceModel
  readonly slots: number
  readonly contents: Contents
  fetched(content: Content): Content | undefined
  readonly ramBytes: number
  /** What the disk holds; it has room for everything. */
  readonly disk: Map<AdapterDigest, Content>
  /** Copies into slots, loads by where from, and damaged files that were found; counted up. */
  readonly counts: { device: number; disk: number; origin: number; damaged: number }
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
  /** What lies in the device's memory; nothing while it is being written. */
  readonly #memory = new Map<SlotIndex, Content>()
  readonly #copiesOf = new Map<AdapterDigest, number>()

  constructor(plan: TiersPlan, deps: TiersDeps) {
    this.#plan = plan
    this.#deps = deps
    this.#policy = new EvictionPolicy(deps.clock)
    this.#device = new DeviceSlots({
      memory: {
        slots: plan.slots,
        loadAdapter: (slot, packed) => {
          this.#memory.delete(slot)
          return new Promise((resolve) =>
            this.#copies.set(slot, () => {
              this.#memory.set(slot, contentOf(packed))
              resolve()
            }),
          )
        },
        clearSlot: (slot) => this.#memory.delete(slot),
      },
      clock: deps.clock,
      scoreOf: (digest, bytes) => this.#policy.score({ digest, bytes, from: 'ram', space: 1 }),
      noteCopy: (bytes, tookMs) => this.#policy.noteReload('ram', bytes, tookMs),
    })
    this.#ram = new RamTier(plan.ramBytes, ({ digest, bytes }) =>
      this.#policy.score({ digest, bytes, from: 'disk', space: bytes }),
    )
  }

  get disk(): Map<AdapterDigest, Content> {
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

  /** The digest of what really lies in a slot's memory; undefined for the base model. */
  weightsIn(slot: SlotIndex): AdapterDigest | undefined {
    const content = slot === BASE_SLOT ? undefined : this.#memory.get(slot)
    return content && this.#plan.contents.digestOf(content)
  }

  /** A bit flips in a file. @param draw 0 … 1: which */
  damageDisk(draw: number): void {
    const { disk, contents } = this.#plan
    const [digest, content] = [...disk][Math.floor(draw * disk.size)] ?? []
    if (digest !== undefined && content !== undefined) disk.set(digest, contents.damaged(content))
  }

  /** Of files on the disk this holds only once they are read. */
  assertSound(): void {
    for (const [slot, view] of this.slots().entries()) {
      if (view.state === 'resident') assert.equal(this.weightsIn(slot as SlotIndex), view.digest, 'I3: a slot holds what it says')
    }
    for (const digest of this.#ram.digests()) {
      const packed = this.#ram.peek(digest)?.packed
      if (packed !== undefined)
        assert.equal(this.#plan.contents.digestOf(contentOf(packed)), digest, 'I3: RAM holds what it says')
    }
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
    for (const digest of this.#plan.disk.keys()) found.set(digest, 'disk')
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
    this.#flights.set(digest, flight)
    this.#deps.onChange(digest, 'arriving')
    this.#load(digest, bytes, from, flight)
    return flight
  }

  /** What comes is looked at before it is used: a damaged file is discarded and fetched again, other bytes of an origin are a failure. */
  #load(digest: AdapterDigest, bytes: number, from: 'disk' | 'origin', flight: Flight): void {
    const { disk, contents, counts, model } = this.#plan
    counts[from] += 1
    this.#deps.after(loadMs(model, from, bytes), () => {
      const content = from === 'disk' ? disk.get(digest) : this.#plan.fetched(contents.of(digest))
      const isSound = content !== undefined && contents.digestOf(content) === digest
      if (!isSound && from === 'disk') {
        disk.delete(digest)
        counts.damaged += 1
        this.#load(digest, bytes, 'origin', flight)
        return
      }
      this.#flights.delete(digest)
      if (!isSound) {
        for (const want of flight.wants) want.failed()
        this.#deps.onChange(digest, 'absent')
        this.#deps.onArrival()
        return
      }
      disk.set(digest, content)
      for (const want of flight.wants) want.arrived(packedOf(digest, content, bytes))
      // Who wanted it has left: it stays on the disk.
      if (flight.wants.size === 0) this.#deps.onChange(digest, 'disk')
      this.#deps.onArrival()
    })
  }
}

function packedOf(digest: AdapterDigest, content: Content, bytes: number): PackedAdapter {
  const modules = [{ layer: 0, module: 'q_proj' as const, rank: 1, a: content, b: content }]
  return { digest, dtype: 'f16', rank: 16, modules, bytes }
}

function contentOf({ modules }: PackedAdapter): Content {
  const a = modules[0]?.a
  assert(a instanceof Uint16Array, 'weights of this world are codes')
  return a
}
