import type { AdapterDigest, AdapterRef, BaseLayout, Clock, Logger, SlotIndex } from '@quiver/protocol'
import type { DeviceMemory } from './device-memory.ts'
import type { PackedDtype } from './format/packed-adapter.ts'
import type { AdapterLease } from './lease.ts'
import type { Residency } from './residency.ts'
import type { ObjectStore } from './store/object-store.ts'
import type { DeviceTier } from './tiers/device-tier.ts'

export interface AdapterIdentity {
  readonly digest: AdapterDigest
  /** As the request said it. */
  readonly name: string
}

export interface AdapterCache {
  /**
   * Which digest a reference means now. `registered`: its own digest after a syntactic check, no I/O; `local`: asks the origin.
   * @throws ServingError `adapter_not_found`, `adapter_invalid`, `forbidden`, `source_unavailable`
   */
  resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity>
  /** Takes a counted lease and starts whatever loads are missing up to the RAM tier. Lookup and count happen in one turn. */
  lease(identity: AdapterIdentity): AdapterLease
  residency(digest: AdapterDigest): Residency
  readonly device: DeviceTier
  /** Puts an adapter from RAM into a slot; started by the step applier. Rejects when the load failed; the slot is then free again. */
  loadIntoSlot(lease: AdapterLease, slot: SlotIndex): Promise<void>
  close(): Promise<void>
}

export interface AdapterCacheConfig {
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
  readonly maxRank: number
  /** Folder of the disk tier; made when missing. */
  readonly cacheDir: string
  readonly diskBytes: number
  readonly ramBytes: number
  /** Folders below which `local` adapters may lie. */
  readonly localRoots: readonly string[]
}

export interface AdapterCacheDeps {
  readonly clock: Clock
  readonly store: ObjectStore
  readonly device: DeviceMemory
  readonly log: Logger
}
