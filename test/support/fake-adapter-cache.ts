import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type {
  AdapterCache,
  AdapterIdentity,
  AdapterLease,
  DeviceMemory,
  DeviceTier,
  PackedAdapter,
  SlotView,
} from '@quiver/cache'
import {
  type AdapterDigest,
  type AdapterPresence,
  type AdapterPresences,
  type AdapterRef,
  type Clock,
  memberName,
  parseAdapterDigest,
  ServingError,
  type SlotIndex,
} from '@quiver/protocol'

/** The digest that a fake adapter of this name has. */
export function fakeDigest(name: string): AdapterDigest {
  return parseAdapterDigest(createHash('sha256').update(name).digest('hex'))
}

/** How adapters behave, by name. `held`: on their way until the test lets them go. */
export interface FakeAdapterBehaviour {
  readonly missing?: boolean
  readonly fails?: boolean
  readonly held?: boolean
  readonly resolveHeld?: boolean
}

/**
 * An adapter cache without files: every name exists unless a test says otherwise, arrives after a turn of the event loop, and
 * counts its leases. The device tier asserts what the real one does: no eviction under a lease, one slot per adapter.
 */
export class FakeAdapterCache implements AdapterCache {
  readonly device: FakeDeviceTier
  readonly #behaviours = new Map<string, FakeAdapterBehaviour>()
  readonly #entries = new Map<AdapterDigest, Entry>()
  readonly #gates = new Map<string, (() => void)[]>()
  /** Leases that are not given back, over all adapters. */
  leaseCount = 0
  isClosed = false
  /** Names that were leased, and those whose load was left to go on, in order. */
  readonly asked: string[] = []
  readonly leftLoading: string[] = []
  readonly pinned = new Set<AdapterDigest>()
  readonly lifted: AdapterDigest[] = []
  readonly ramLimits: number[] = []
  readonly presenceListeners = new Set<(digest: AdapterDigest) => void>()

  constructor(deps: { readonly memory: DeviceMemory; readonly clock: Clock }) {
    this.device = new FakeDeviceTier(deps)
  }

  behave(name: string, behaviour: FakeAdapterBehaviour): void {
    this.#behaviours.set(name, behaviour)
  }

  /** Lets a held adapter, or a held look-up, go on. */
  letGo(name: string): void {
    this.#behaviours.delete(name)
    for (const open of this.#gates.get(name) ?? []) open()
    this.#gates.delete(name)
  }

  async resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity> {
    const name = nameOf(ref)
    const behaviour = this.#behaviours.get(name)
    if (behaviour?.resolveHeld) await this.#gate(name)
    if (behaviour?.missing) throw new ServingError('adapter_not_found', `there is no adapter ${name}`)
    return { name, digest: fakeDigest(name) }
  }

  lease(identity: AdapterIdentity): AdapterLease {
    const { digest, name } = identity
    this.asked.push(name)
    const entry = this.#entries.get(digest) ?? this.#arrive(identity)
    this.#entries.set(digest, entry)
    entry.leases += 1
    this.leaseCount += 1
    let isReleased = false
    const release = (): void => {
      if (isReleased) return
      isReleased = true
      this.leaseCount -= 1
      entry.leases -= 1
      cancel(new ServingError('client_closed', 'released'))
      // The next lease arrives anew, so that a test sees arrivals again and again.
      if (entry.leases === 0) this.#entries.delete(digest)
    }
    let cancel = (_: ServingError) => {}
    const ready = Promise.race([
      entry.arrival,
      new Promise<never>((_, reject) => {
        cancel = reject
      }),
    ])
    ready.catch(() => {})
    return {
      digest,
      name,
      ready,
      get state() {
        return isReleased ? 'released' : entry.state
      },
      get packed() {
        assert(!isReleased && entry.state === 'ready', `adapter ${name} is not ready`)
        return packedOf(digest)
      },
      release,
      releaseLoading: () => {
        if (!isReleased && entry.state === 'arriving') this.leftLoading.push(name)
        release()
      },
    }
  }

  usage() {
    const disk = { bytes: 0, hits: 0, misses: 0, damaged: 0, evicted: 0, writeFailures: 0 }
    return { device: { bytes: 0, evicted: 0 }, ram: { bytes: 0, heldBytes: 0, evicted: 0, budgetBytes: 1 }, disk }
  }

  activity() {
    return {
      found: { device: 0, ram: 0, arriving: 0, absent: 0 },
      arrived: { disk: 0, origin: 0, merge: 0 },
      failedLoads: 0,
      slotsWanted: 0,
      pinned: this.pinned.size,
      pinnedBytes: 0,
      quarantined: 0,
    }
  }

  presences(digest?: AdapterDigest): AdapterPresences {
    const adapters = this.device
      .snapshot()
      .flatMap((view): AdapterPresence[] =>
        view.state === 'resident' && (digest === undefined || digest === view.digest)
          ? [{ digest: view.digest, state: 'resident', tier: 'device', bytes: 0, leases: view.leaseCount, pinned: false }]
          : [],
      )
    return { adapters, slotsWanted: 0 }
  }

  async prefetch(identity: AdapterIdentity, signal: AbortSignal): Promise<void> {
    const lease = this.lease(identity)
    signal.addEventListener('abort', lease.release, { once: true })
    await lease.ready.finally(lease.release)
  }

  async pin(identity: AdapterIdentity, signal: AbortSignal): Promise<void> {
    await this.prefetch(identity, signal)
    this.pinned.add(identity.digest)
  }

  unpin(digest: AdapterDigest): void {
    this.pinned.delete(digest)
  }

  async lift(digest: AdapterDigest): Promise<void> {
    this.lifted.push(digest)
  }

  limitRam(bytes: number): void {
    this.ramLimits.push(bytes)
  }

  onPresenceChange(listener: (digest: AdapterDigest) => void): () => void {
    this.presenceListeners.add(listener)
    return () => this.presenceListeners.delete(listener)
  }

  outlook() {
    const line = { fixedMs: 1, msPerMib: 1 }
    const slots = this.device.snapshot()
    const freeSlots = slots.filter(({ state }) => state === 'free').length
    const victim = { requestsPerSecond: 0, reloadMs: 0 }
    return { freeSlots, hasSlotToGive: freeSlots > 0, victim, reload: { ram: line, disk: line, origin: line } }
  }

  residency(digest: AdapterDigest) {
    const slot = this.device.snapshot().find((view) => view.state === 'resident' && view.digest === digest)
    return slot?.state === 'resident'
      ? ({ state: 'resident', tier: 'device', bytes: 0, leaseCount: slot.leaseCount } as const)
      : ({ state: 'absent' } as const)
  }

  loadIntoSlot(lease: AdapterLease, slot: SlotIndex): Promise<void> {
    return this.device.load(slot, lease.packed)
  }

  async close(): Promise<void> {
    assert.equal(this.leaseCount, 0, 'the cache is closed while leases are held')
    this.isClosed = true
  }

  #arrive({ name }: AdapterIdentity): Entry {
    const behaviour = this.#behaviours.get(name)
    const entry: Entry = { state: 'arriving', leases: 0, arrival: Promise.resolve() }
    entry.arrival = (async () => {
      await (behaviour?.held ? this.#gate(name) : new Promise(setImmediate))
      entry.state = behaviour?.fails ? 'failed' : 'ready'
      if (behaviour?.fails) throw new ServingError('adapter_invalid', `adapter ${name} is damaged`)
    })()
    entry.arrival.catch(() => {})
    return entry
  }

  #gate(name: string): Promise<void> {
    return new Promise((open) => this.#gates.set(name, [...(this.#gates.get(name) ?? []), open]))
  }
}

/** A merged adapter is known by its members' names. */
function nameOf(ref: Exclude<AdapterRef, { kind: 'base' }>): string {
  if (ref.kind === 'merged') return ref.members.map((member) => nameOf(member.ref)).join(',')
  return memberName(ref)
}

interface Entry {
  state: 'arriving' | 'ready' | 'failed'
  leases: number
  arrival: Promise<void>
}

export class FakeDeviceTier implements DeviceTier {
  readonly #memory: DeviceMemory
  readonly #clock: Clock
  readonly #views: SlotView[]

  constructor({ memory, clock }: { readonly memory: DeviceMemory; readonly clock: Clock }) {
    this.#memory = memory
    this.#clock = clock
    this.#views = Array.from({ length: memory.slots }, (_, slot) => ({ state: 'free', slot: slot as SlotIndex, generation: 0 }))
  }

  snapshot(): readonly SlotView[] {
    return [...this.#views]
  }

  slotOf(digest: AdapterDigest): SlotIndex | undefined {
    return this.#views.find((view) => view.state === 'resident' && view.digest === digest)?.slot
  }

  async load(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    const before = this.#view(slot)
    assert(before.state !== 'loading', `slot ${slot} is loading already`)
    assert(before.state === 'free' || before.leaseCount === 0, `slot ${slot} is evicted under a lease`)
    const { digest } = packed
    assert(!this.#views.some((view) => view.state !== 'free' && view.digest === digest), `adapter ${digest} is loaded twice`)
    const generation = before.generation + 1
    this.#views[slot] = { state: 'loading', slot, generation, digest }
    try {
      await this.#memory.loadAdapter(slot, packed)
    } catch (error) {
      this.#views[slot] = { state: 'free', slot, generation }
      throw error
    }
    const nowMs = this.#clock.nowMs()
    this.#views[slot] = { state: 'resident', slot, generation, digest, leaseCount: 0, lastUsedMs: nowMs, keepScore: nowMs }
  }

  lease(slot: SlotIndex, digest: AdapterDigest) {
    const view = this.#view(slot)
    assert(view.state === 'resident' && view.digest === digest, `slot ${slot} does not hold ${digest}`)
    const { generation } = view
    this.#count(slot, 1)
    let isReleased = false
    return {
      slot,
      generation,
      digest,
      release: () => {
        if (isReleased) return
        isReleased = true
        assert.equal(this.#view(slot).generation, generation, `slot ${slot} changed hands under a lease`)
        this.#count(slot, -1)
      },
    }
  }

  #count(slot: SlotIndex, change: number): void {
    const view = this.#view(slot)
    assert(view.state === 'resident')
    const nowMs = this.#clock.nowMs()
    this.#views[slot] = { ...view, leaseCount: view.leaseCount + change, lastUsedMs: nowMs, keepScore: nowMs }
  }

  #view(slot: SlotIndex): SlotView {
    const view = this.#views[slot]
    assert(view !== undefined, `there is no slot ${slot}`)
    return view
  }
}

function packedOf(digest: AdapterDigest): PackedAdapter {
  return { digest, dtype: 'f32', rank: 1, modules: [], bytes: 0 }
}
