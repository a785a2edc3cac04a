import assert from 'node:assert/strict'
import {
  type AdapterActivity,
  type AdapterDigest,
  type AdapterPresences,
  type AdapterRef,
  type Clock,
  ServingError,
  type SlotIndex,
  type TierUsage,
  toServingError,
} from '@quiver/protocol'
import type { AdapterCache, AdapterCacheConfig, AdapterCacheDeps } from './adapter-cache.ts'
import { AdapterLoader } from './adapter-loader.ts'
import { AdapterOrders } from './adapter-orders.ts'
import { type AdapterIdentity, AdapterOrigins } from './adapter-origins.ts'
import { Arrivals } from './arrivals.ts'
import type { AttemptMarks } from './attempt-marks.ts'
import { type DeviceOutlook, deviceOutlook } from './device-outlook.ts'
import type { PackedAdapter } from './format/packed-adapter.ts'
import { maxWeightsBytes } from './format/validate.ts'
import { type AdapterLease, TierLease } from './lease.ts'
import { failureInNames } from './merge/member-sources.ts'
import type { EvictionPolicy } from './policy/eviction-policy.ts'
import { reportPresences } from './presence-report.ts'
import type { PresenceWatch } from './presence-watch.ts'
import { Quarantine } from './quarantine.ts'
import type { Residency } from './residency.ts'
import type { Outcome } from './single-flight.ts'
import { DeviceSlots } from './tiers/device-tier.ts'
import type { DiskTier } from './tiers/disk-tier.ts'
import { RamTier } from './tiers/ram-tier.ts'

/** Of the RAM budget, what pinned adapters may take: the rest is for those that are asked for. */
const PINNED_SHARE = 0.5
/** A process that ended once while it loaded an adapter may have had other reasons. */
const CRASHES_ALLOWED = 2

/** What is opened before the cache, because it reads folders. */
export interface TieredCacheParts {
  readonly disk: DiskTier
  readonly marks: AttemptMarks
  readonly policy: EvictionPolicy
  readonly watch: PresenceWatch
}

export class TieredCache implements AdapterCache {
  readonly device: DeviceSlots
  readonly #clock: Clock
  readonly #policy: EvictionPolicy
  readonly #watch: PresenceWatch
  readonly #marks: AttemptMarks
  readonly #origins: AdapterOrigins
  readonly #disk: DiskTier
  readonly #ram: RamTier
  readonly #loader: AdapterLoader
  readonly #arrivals: Arrivals
  readonly #quarantine: Quarantine
  readonly #orders: AdapterOrders
  readonly #slotLoads = new Set<Promise<void>>()
  readonly #found = { device: 0, ram: 0, arriving: 0, absent: 0 }
  readonly #closing = new AbortController()

  constructor(config: AdapterCacheConfig, deps: AdapterCacheDeps, parts: TieredCacheParts) {
    const { clock, store, device, log, remote } = deps
    const { disk, marks, policy, watch } = parts
    const { changed } = watch
    this.#clock = clock
    this.#policy = policy
    this.#watch = watch
    this.#marks = marks
    this.#disk = disk
    const limits = { maxRank: config.maxRank, maxWeightsBytes: maxWeightsBytes(config.layout, config.maxRank) }
    this.#origins = new AdapterOrigins({ store, localRoots: config.localRoots, remote, clock }, limits)
    const ramScore = ({ digest, bytes }: PackedAdapter) =>
      policy.score({ digest, bytes, from: this.#onDisk(digest), space: bytes })
    this.#ram = new RamTier(config.ramBytes, ramScore, changed)
    this.#quarantine = new Quarantine(clock)
    this.#loader = new AdapterLoader(config, {
      disk,
      originOf: (digest) => this.#origins.at(digest),
      readMember: (digest, signal, read) => this.#arrivals.readMember(digest, signal, read),
      log,
    })
    const hasRoom = (): boolean => this.#ram.hasRoom
    this.#arrivals = new Arrivals({
      clock,
      log,
      policy,
      quarantine: this.#quarantine,
      marks,
      hasRoom,
      loader: this.#loader,
      changed,
    })
    this.#orders = new AdapterOrders({
      lease: (identity) => this.#newLease(identity),
      pinnedBytesAtMost: Math.floor(config.ramBytes * PINNED_SHARE),
      keepOnDisk: (digest, kept) => disk.keep(digest, kept),
    })
    const memory = {
      slots: device.slots,
      clearSlot: (slot: SlotIndex): void => device.clearSlot(slot),
      loadAdapter: (slot: SlotIndex, packed: PackedAdapter): Promise<void> =>
        marks.inTurn(packed.digest, 'place', this.#closing.signal, () =>
          marks.guard(packed.digest, 'place', () => device.loadAdapter(slot, packed)),
        ),
    }
    this.device = new DeviceSlots({
      memory,
      clock,
      scoreOf: (digest, bytes) => policy.score({ digest, bytes, from: this.#inMemory(digest), space: 1 }),
      noteCopy: (bytes, tookMs) => policy.noteReload('ram', bytes, tookMs),
      changed,
    })
    for (const digest of marks.suspects) if (marks.crashesOf(digest) >= CRASHES_ALLOWED) this.#holdPoison(digest)
  }

  async resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity> {
    return await this.#origins.resolve(ref)
  }

  usage(): TierUsage {
    return { device: this.device.usage, ram: this.#ram.usage, disk: this.#disk.usage }
  }

  activity(): AdapterActivity {
    const { failed, ...arrived } = this.#arrivals.counters
    return {
      found: { ...this.#found },
      arrived,
      failedLoads: failed,
      slotsWanted: this.device.slotsWanted,
      pinned: this.#orders.pinned.size,
      pinnedBytes: this.#orders.pinnedBytes,
      quarantined: this.#quarantine.size,
    }
  }

  lease(identity: AdapterIdentity): AdapterLease {
    const { digest } = identity
    if (this.device.slotOf(digest) !== undefined) this.#found.device += 1
    else if (this.#ram.peek(digest) !== undefined) this.#found.ram += 1
    else this.#found[this.#arrivals.has(digest) ? 'arriving' : 'absent'] += 1
    return this.#newLease(identity)
  }

  residency(digest: AdapterDigest): Residency {
    const inDevice = this.device.presence(digest)
    if (inDevice?.state === 'resident')
      return { state: 'resident', tier: 'device', bytes: inDevice.bytes, leaseCount: inDevice.leaseCount }
    if (inDevice?.state === 'loading') return { state: 'arriving', tier: 'device', startedAtMs: inDevice.startedAtMs }
    const inRam = this.#ram.peek(digest)
    if (inRam !== undefined) {
      const leaseCount = inRam.count - this.#orders.leasesOf(digest)
      return { state: 'resident', tier: 'ram', bytes: inRam.packed.bytes, leaseCount }
    }
    const arrival = this.#arrivals.all.get(digest)
    if (arrival !== undefined) return { state: 'arriving', tier: 'ram', startedAtMs: arrival.startedAtMs }
    const failure = this.#quarantine.get(digest)
    if (failure !== undefined) return { state: 'quarantined', untilMs: failure.untilMs, cause: failure.cause.code }
    const onDisk = this.#disk.sizeOf(digest)
    return onDisk === undefined ? { state: 'absent' } : { state: 'resident', tier: 'disk', bytes: onDisk, leaseCount: 0 }
  }

  presences(digest?: AdapterDigest): AdapterPresences {
    const adapters = reportPresences({
      digests: digest === undefined ? this.#known() : [digest],
      residency: (one) => this.residency(one),
      slotOf: (one) => this.device.slotOf(one),
      isPinned: (one) => this.#orders.isPinned(one),
      nowMs: this.#clock.nowMs(),
    })
    return { adapters, slotsWanted: this.device.slotsWanted }
  }

  async prefetch(identity: AdapterIdentity, signal: AbortSignal): Promise<void> {
    await this.#orders.prefetch(identity, signal)
  }

  async pin(identity: AdapterIdentity, signal: AbortSignal): Promise<void> {
    await this.#orders.pin(identity, signal)
  }

  unpin(digest: AdapterDigest): void {
    this.#orders.unpin(digest)
  }

  async lift(digest: AdapterDigest): Promise<void> {
    this.#quarantine.lift(digest)
    await this.#marks.forget(digest)
  }

  onPresenceChange(listener: (digest: AdapterDigest) => void): () => void {
    return this.#watch.listen(listener)
  }

  outlook(): DeviceOutlook {
    const policy = this.#policy
    return deviceOutlook({
      slots: this.device.snapshot(),
      reload: policy.reloads(),
      requestsPerSecond: (digest) => policy.requestsPerSecond(digest),
      from: (digest) => this.#inMemory(digest),
      bytesOf: (digest) => {
        const presence = this.device.presence(digest)
        return presence?.state === 'resident' ? presence.bytes : 0
      },
    })
  }

  limitRam(bytes: number): void {
    this.#ram.limit(bytes)
    this.#arrivals.wake()
  }

  async loadIntoSlot(lease: AdapterLease, slot: SlotIndex): Promise<void> {
    const { packed } = lease
    // The lease may be released while the copy runs; the weights stay until it ends.
    assert(this.#ram.hold(packed.digest) !== undefined, 'a ready lease holds its adapter in RAM')
    const load = this.device.load(slot, packed).finally(() => this.#drop(packed.digest))
    this.#slotLoads.add(load)
    try {
      await load
    } finally {
      this.#slotLoads.delete(load)
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(shuttingDown())
    this.#arrivals.failAll(shuttingDown())
    this.#orders.close()
    await Promise.allSettled(this.#slotLoads)
    await this.#loader.settled()
  }

  /** Lookup and count happen in one turn. */
  #newLease(identity: AdapterIdentity): AdapterLease {
    const { digest } = identity
    const leave = { flight: () => {} }
    const lease = new TierLease(identity, {
      leave: () => leave.flight(),
      carryOn: () => this.#orders.carryOn(identity),
      drop: () => this.#drop(digest),
    })
    this.#policy.noteUse(digest)
    const packed = this.#ram.hold(digest)
    const failure = packed === undefined ? this.#quarantine.get(digest) : undefined
    if (packed !== undefined) lease.arrived(packed)
    else if (this.#closing.signal.aborted) lease.failed(shuttingDown())
    else if (failure !== undefined) lease.failed(failureInNames(identity.recipe, failure.cause))
    else leave.flight = this.#arrivals.join(identity, (outcome) => this.#settle(lease, identity, outcome))
    return lease
  }

  /** Called for all leases of a flight in one turn, so that nothing is evicted between arrival and hold. */
  #settle(lease: TierLease, identity: AdapterIdentity, outcome: Outcome<PackedAdapter>): void {
    if (outcome.ok) lease.arrived(this.#ram.holdNew(outcome.value))
    else lease.failed(failureInNames(identity.recipe, toServingError(outcome.reason)))
  }

  #drop(digest: AdapterDigest): void {
    this.#ram.drop(digest)
    this.#arrivals.wake()
  }

  /** Where a slot would get the adapter from again. */
  #inMemory(digest: AdapterDigest): 'ram' | 'disk' | 'origin' {
    return this.#ram.peek(digest) === undefined ? this.#onDisk(digest) : 'ram'
  }

  #onDisk(digest: AdapterDigest): 'disk' | 'origin' {
    return this.#disk.sizeOf(digest) === undefined ? 'origin' : 'disk'
  }

  /** Every adapter that is anywhere, fastest tier first; some more than once. */
  *#known(): Iterable<AdapterDigest> {
    yield* this.device.digests()
    yield* this.#ram.digests()
    yield* this.#arrivals.all.keys()
    for (const [digest] of this.#quarantine.all()) yield digest
    yield* this.#disk.digests()
  }

  #holdPoison(digest: AdapterDigest): void {
    const times = this.#marks.crashesOf(digest)
    this.#quarantine.hold(
      digest,
      new ServingError('adapter_invalid', `adapter ${digest} has ended the worker ${times} times while it was being loaded`, {
        crashes: times,
      }),
    )
  }
}

function shuttingDown(): ServingError {
  return new ServingError('draining', 'the worker is shutting down')
}
