/**
 * Which adapters are where, and who may use them.
 *
 * - A *lease* is taken when a request arrives. It counts from that turn on, starts the load, and once ready keeps the packed
 *   weights in RAM. Loads of one digest share one flight; it is aborted when its last lease is released.
 * - A *slot lease* is taken when a sequence runs. It keeps the slot's adapter and generation.
 * - Nothing that is leased leaves its tier; both kinds count to 0 again when every request has ended.
 *
 * A digest is the only key. The same name may mean another digest a moment later; leases keep theirs.
 */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import * as nodeFiles from 'node:fs/promises'
import {
  type AdapterDigest,
  type AdapterRef,
  type BaseLayout,
  type Clock,
  type Logger,
  type MemberRef,
  parseAdapterDigest,
  ServingError,
  type SlotIndex,
  type TierUsage,
  toServingError,
} from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { AdapterLoader } from './adapter-loader.ts'
import type { DeviceMemory } from './device-memory.ts'
import type { PackedAdapter, PackedDtype } from './format/packed-adapter.ts'
import { maxWeightsBytes, type ValidAdapter } from './format/validate.ts'
import { type AdapterLease, TierLease } from './lease.ts'
import { LoadGate } from './load-gate.ts'
import type { ReadSource } from './merge/member-sources.ts'
import type { MergeRecipe } from './merge/merge-recipe.ts'
import { resolveMerged } from './merge/resolve-merged.ts'
import { NegativeCache } from './negative-cache.ts'
import { LocalOrigin } from './origin/local.ts'
import type { OriginAdapter } from './origin/origin.ts'
import { StoredOrigin } from './origin/stored.ts'
import type { Residency } from './residency.ts'
import { type Outcome, SingleFlight } from './single-flight.ts'
import type { ObjectStore } from './store/object-store.ts'
import { DeviceSlots, type DeviceTier } from './tiers/device-tier.ts'
import { DiskTier } from './tiers/disk-tier.ts'
import { RamTier } from './tiers/ram-tier.ts'

export interface AdapterIdentity {
  readonly digest: AdapterDigest
  /** As the request said it. */
  readonly name: string
  /** Of a merged adapter: what its weights are made of when no tier has them. */
  readonly recipe?: MergeRecipe
}

export interface AdapterCache {
  /**
   * Which digest a reference means now. `registered`: its own digest after a syntactic check, no I/O; `local`: asks the origin;
   * `merged`: follows from its members' digests.
   * @throws ServingError `adapter_not_found`, `adapter_invalid`, `forbidden`, `invalid_request` (not a path), `too_large`,
   * `source_unavailable`
   */
  resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity>
  /** Takes a counted lease and starts whatever loads are missing up to the RAM tier. Lookup and count happen in one turn. */
  lease(identity: AdapterIdentity): AdapterLease
  residency(digest: AdapterDigest): Residency
  /** What each tier holds, and what it has done since the start. */
  usage(): TierUsage
  readonly device: DeviceTier
  /** Puts an adapter from RAM into a slot; started by the step applier. Rejects when the load failed; the slot is then free again. */
  loadIntoSlot(lease: AdapterLease, slot: SlotIndex): Promise<void>
  /** Cancels arriving loads, and waits for slots that load and files that are being written. Release leases before. */
  close(): Promise<void>
}

export interface AdapterCacheConfig {
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
  readonly maxRank: number
  /** Folder of the disk tier; made when missing. */
  readonly cacheDir: string
  /** 0 switches the disk tier off. */
  readonly diskBytes: number
  readonly ramBytes: number
  /** Folders below which `local` adapters may lie; absolute. */
  readonly localRoots: readonly string[]
}

export interface AdapterCacheDeps {
  readonly clock: Clock
  readonly store: ObjectStore
  readonly device: DeviceMemory
  readonly log: Logger
}

/** Loads that run at once: enough that a slow origin holds up nobody else's, few enough to bound memory and file handles. */
const LOADS_AT_ONCE = 16
/** Merges that run at once, beside the loads: each holds the source weights of all of its members in memory. */
const MERGES_AT_ONCE = 2
/** Where the bytes of resolved local adapters can be found; each costs some 200 bytes. */
const LOCAL_REMEMBERED = 10_000

/**
 * Opens the disk tier (sweep, trim) and gives the cache.
 * @throws ServingError `internal` when the cache folder cannot be written
 */
export async function createAdapterCache(config: AdapterCacheConfig, deps: AdapterCacheDeps): Promise<AdapterCache> {
  const { cacheDir, diskBytes, layout, dtype } = config
  const disk = await DiskTier.open(
    { folder: cacheDir, budgetBytes: diskBytes, layout, dtype },
    { files: nodeFiles, log: deps.log, uniqueId: randomUUID },
  )
  return new TieredCache(config, deps, disk)
}

class TieredCache implements AdapterCache {
  readonly device: DeviceSlots
  readonly #clock: Clock
  readonly #log: Logger
  readonly #local: LocalOrigin
  readonly #stored: StoredOrigin
  readonly #localByDigest = new LRUCache<AdapterDigest, OriginAdapter>({ max: LOCAL_REMEMBERED })
  readonly #disk: DiskTier
  readonly #ram: RamTier
  readonly #loader: AdapterLoader
  readonly #gate: LoadGate
  readonly #mergeGate: LoadGate
  readonly #flights = new SingleFlight<AdapterDigest, PackedAdapter>()
  readonly #arriving = new Map<AdapterDigest, { readonly startedAtMs: number }>()
  readonly #failures: NegativeCache<AdapterDigest>
  readonly #slotLoads = new Set<Promise<void>>()
  #closed = false

  constructor(config: AdapterCacheConfig, { clock, store, device, log }: AdapterCacheDeps, disk: DiskTier) {
    const limits = { maxRank: config.maxRank, maxWeightsBytes: maxWeightsBytes(config.layout, config.maxRank) }
    this.#clock = clock
    this.#log = log
    this.#disk = disk
    this.#ram = new RamTier(config.ramBytes)
    this.#local = new LocalOrigin(config.localRoots, limits)
    this.#stored = new StoredOrigin(store, limits)
    this.#failures = new NegativeCache(clock)
    const hasRoom = (): boolean => this.#ram.heldBytes < config.ramBytes
    this.#gate = new LoadGate(LOADS_AT_ONCE, hasRoom)
    this.#mergeGate = new LoadGate(MERGES_AT_ONCE, hasRoom)
    this.#loader = new AdapterLoader(config, {
      disk,
      originOf: (digest) => this.#originOf(digest),
      readMember: (digest, signal, read) => this.#readMember(digest, signal, read),
      log,
    })
    this.device = new DeviceSlots(device, clock)
  }

  async resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity> {
    return ref.kind === 'merged' ? await resolveMerged(ref, (member) => this.#resolveOne(member)) : await this.#resolveOne(ref)
  }

  async #resolveOne(ref: MemberRef): Promise<AdapterIdentity> {
    if (ref.kind === 'registered') return { digest: parseAdapterDigest(ref.digest), name: ref.name }
    const found = await this.#local.resolve(ref.path)
    this.#localByDigest.set(found.digest, found)
    return { digest: found.digest, name: ref.path }
  }

  usage(): TierUsage {
    return { device: this.device.usage, ram: this.#ram.usage, disk: this.#disk.usage }
  }

  lease(identity: AdapterIdentity): AdapterLease {
    const { digest } = identity
    const leave = { flight: () => {} }
    const lease = new TierLease(identity, { leave: () => leave.flight(), drop: () => this.#drop(digest) })
    const packed = this.#ram.hold(digest)
    const failure = packed === undefined ? this.#failures.get(digest) : undefined
    if (packed !== undefined) lease.arrived(packed)
    else if (this.#closed) lease.failed(shuttingDown())
    else if (failure !== undefined) lease.failed(failure.cause)
    else
      leave.flight = this.#flights.join(
        digest,
        (signal) => this.#fly(identity, signal),
        (outcome) => this.#settle(lease, outcome),
      )
    return lease
  }

  residency(digest: AdapterDigest): Residency {
    const inDevice = this.device.presence(digest)
    if (inDevice?.state === 'resident')
      return { state: 'resident', tier: 'device', bytes: inDevice.bytes, leaseCount: inDevice.leaseCount }
    if (inDevice?.state === 'loading') return { state: 'arriving', tier: 'device', startedAtMs: inDevice.startedAtMs }
    const inRam = this.#ram.peek(digest)
    if (inRam !== undefined) return { state: 'resident', tier: 'ram', bytes: inRam.packed.bytes, leaseCount: inRam.count }
    const arrival = this.#arriving.get(digest)
    if (arrival !== undefined) return { state: 'arriving', tier: 'ram', startedAtMs: arrival.startedAtMs }
    const failure = this.#failures.get(digest)
    if (failure !== undefined) return { state: 'quarantined', untilMs: failure.untilMs, cause: failure.cause.code }
    const onDisk = this.#disk.sizeOf(digest)
    return onDisk === undefined ? { state: 'absent' } : { state: 'resident', tier: 'disk', bytes: onDisk, leaseCount: 0 }
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
    this.#closed = true
    this.#flights.failAll(shuttingDown())
    await Promise.allSettled(this.#slotLoads)
    await this.#loader.settled()
  }

  /** A folder where this content was seen, then the store: the folder may have gone, and the content may be registered too. */
  #originOf(digest: AdapterDigest): OriginAdapter {
    const stored = this.#stored.at(digest)
    const local = this.#localByDigest.get(digest)
    if (local === undefined) return stored
    const fetch: OriginAdapter['fetch'] = async (signal) => {
      try {
        return await local.fetch(signal)
      } catch (fromFolder) {
        if (signal.aborted) throw fromFolder
        if (this.#localByDigest.peek(digest) === local) this.#localByDigest.delete(digest)
        return await stored.fetch(signal).catch((fromStore: unknown) => {
          throw toServingError(fromStore).code === 'adapter_not_found' ? fromFolder : fromStore
        })
      }
    }
    return { digest, fetch }
  }

  /** One load for all who wait. */
  async #fly({ digest, recipe }: AdapterIdentity, signal: AbortSignal): Promise<PackedAdapter> {
    const arrival = { startedAtMs: this.#clock.nowMs() }
    this.#arriving.set(digest, arrival)
    // A merge waits for loads of its members, so it must not hold a place among them.
    const gate = recipe === undefined ? this.#gate : this.#mergeGate
    try {
      return await this.#attempt(digest, signal, () => gate.run(signal, () => this.#loader.load(digest, recipe, signal)))
    } finally {
      // A newer flight of this digest may have begun since this one was aborted.
      if (this.#arriving.get(digest) === arrival) this.#arriving.delete(digest)
    }
  }

  /** A member that has just failed, in a merge or by itself, is not asked for again at once. */
  async #readMember(digest: AdapterDigest, signal: AbortSignal, read: ReadSource): Promise<ValidAdapter> {
    const failure = this.#failures.get(digest)
    if (failure !== undefined) throw failure.cause
    return await this.#attempt(digest, signal, () => this.#gate.run(signal, () => read(digest, signal)))
  }

  /** Everything but an abort counts for or against the adapter. */
  async #attempt<T>(digest: AdapterDigest, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work()
      this.#failures.succeeded(digest)
      return result
    } catch (thrown) {
      const cause = toServingError(thrown)
      // An abort says nothing about the adapter.
      if (!signal.aborted) {
        this.#failures.failed(digest, cause)
        this.#log('warn', 'an adapter cannot be loaded', { ...cause.context, digest, code: cause.code, reason: reasonOf(cause) })
      }
      throw cause
    }
  }

  /** Called for all leases of a flight in one turn, so that nothing is evicted between arrival and hold. */
  #settle(lease: TierLease, outcome: Outcome<PackedAdapter>): void {
    if (outcome.ok) lease.arrived(this.#ram.holdNew(outcome.value))
    else lease.failed(toServingError(outcome.reason))
  }

  #drop(digest: AdapterDigest): void {
    this.#ram.drop(digest)
    this.#gate.wake()
    this.#mergeGate.wake()
  }
}

function shuttingDown(): ServingError {
  return new ServingError('draining', 'the worker is shutting down')
}

/** An unexpected error hides its text from clients; the log wants it. */
function reasonOf({ message, cause }: ServingError): string {
  return cause instanceof Error ? `${message}: ${cause.message}` : message
}
