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
import { randomUUID } from 'node:crypto'
import * as nodeFiles from 'node:fs/promises'
import { join } from 'node:path'
import type {
  AdapterActivity,
  AdapterDigest,
  AdapterPresences,
  AdapterRef,
  BaseLayout,
  Clock,
  Logger,
  SlotIndex,
  TierUsage,
} from '@quiver/protocol'
import type { AdapterIdentity } from './adapter-origins.ts'
import { AttemptMarks } from './attempt-marks.ts'
import type { DeviceMemory } from './device-memory.ts'
import type { DeviceOutlook } from './device-outlook.ts'
import type { PackedDtype } from './format/packed-adapter.ts'
import type { AdapterLease } from './lease.ts'
import type { RemoteAccess } from './origin/remote.ts'
import { EvictionPolicy } from './policy/eviction-policy.ts'
import { PresenceWatch } from './presence-watch.ts'
import type { Residency } from './residency.ts'
import type { ObjectStore } from './store/object-store.ts'
import { TieredCache } from './tiered-cache.ts'
import type { DeviceTier } from './tiers/device-tier.ts'
import { DiskTier } from './tiers/disk-tier.ts'

export interface AdapterCache {
  /**
   * Which digest a reference means now. `registered`: its own digest after a syntactic check, no I/O; `local`, `hub` and
   * `s3`: asks the origin, which remembers what it found for seconds; `merged`: follows from its members' digests.
   * @throws ServingError `adapter_not_found`, `adapter_invalid`, `forbidden`, `invalid_request` (not a path), `too_large`,
   * `source_unavailable`
   */
  resolve(ref: Exclude<AdapterRef, { kind: 'base' }>): Promise<AdapterIdentity>
  /** Takes a counted lease and starts whatever loads are missing up to the RAM tier. Lookup and count happen in one turn. */
  lease(identity: AdapterIdentity): AdapterLease
  residency(digest: AdapterDigest): Residency
  /** Where its adapters are, fastest tier first, or where the one named is; what is nowhere is left out. */
  presences(digest?: AdapterDigest): AdapterPresences
  /** What each tier holds, and what it has done since the start. */
  usage(): TierUsage
  /** What has been asked for and brought since the start, and what is pinned or in quarantine now. */
  activity(): AdapterActivity
  /**
   * Loads an adapter up to RAM; resolves when it is there. Aborting leaves the load.
   * @throws ServingError why it cannot be had, `overloaded` when too many are fetched ahead, `client_closed` when aborted
   */
  prefetch(identity: AdapterIdentity, signal: AbortSignal): Promise<void>
  /**
   * Loads an adapter up to RAM and keeps it there and on disk. In a slot it is only while it is used. Idempotent.
   * @throws ServingError as `prefetch`; `conflict` when pinned adapters would take more than their share of the RAM budget
   */
  pin(identity: AdapterIdentity, signal: AbortSignal): Promise<void>
  /** Idempotent. */
  unpin(digest: AdapterDigest): void
  /** Ends a quarantine or back-off, and forgets the failures and crashes that led to it. */
  lift(digest: AdapterDigest): Promise<void>
  /** Calls `listener` whenever an adapter may be somewhere else than before; `residency` says where. @returns ends that */
  onPresenceChange(listener: (digest: AdapterDigest) => void): () => void
  /** What one more adapter would find in the device, and what loads take. */
  outlook(): DeviceOutlook
  /** Bounds the RAM tier below its budget while memory is short; at most the budget counts. */
  limitRam(bytes: number): void
  readonly device: DeviceTier
  /** Puts an adapter from RAM into a slot; started by the step applier. Rejects when the load failed; the slot is then free again. */
  loadIntoSlot(lease: AdapterLease, slot: SlotIndex): Promise<void>
  /** Cancels arriving loads and ends pins, and waits for slots that load and files that are being written. Release leases before. */
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
  /** How to reach the hub and buckets; absent: adapters from there are refused. */
  readonly remote?: RemoteAccess
  readonly log: Logger
}

/**
 * Opens the disk tier (sweep, trim), counts what ended earlier processes, and gives the cache.
 * @throws ServingError `internal` when the cache folder cannot be written
 */
export async function createAdapterCache(config: AdapterCacheConfig, deps: AdapterCacheDeps): Promise<AdapterCache> {
  const { cacheDir, diskBytes, layout, dtype } = config
  const { clock, log } = deps
  const policy = new EvictionPolicy(clock)
  const watch = new PresenceWatch()
  const disk = await DiskTier.open(
    { folder: cacheDir, budgetBytes: diskBytes, layout, dtype },
    {
      files: nodeFiles,
      log,
      uniqueId: randomUUID,
      policy: {
        score: (digest, bytes) => policy.score({ digest, bytes, from: 'origin', space: bytes }),
        noteUse: (digest) => policy.noteUse(digest),
      },
      changed: watch.changed,
    },
  )
  const marks = await AttemptMarks.open(join(cacheDir, 'attempts'), { files: nodeFiles, log })
  return new TieredCache(config, deps, { disk, marks, policy, watch })
}
