export {
  type AdapterCache,
  type AdapterCacheConfig,
  type AdapterCacheDeps,
  createAdapterCache,
} from './adapter-cache.ts'
export type { AdapterIdentity } from './adapter-origins.ts'
export type { DeviceMemory } from './device-memory.ts'
export type { DeviceOutlook } from './device-outlook.ts'
export type { PackedAdapter, PackedArray, PackedDtype, PackedModule } from './format/packed-adapter.ts'
export type { AdapterLease } from './lease.ts'
export type { Residency, SlotView } from './residency.ts'
export type { ObjectStore } from './store/object-store.ts'
export type { DeviceTier, SlotLease } from './tiers/device-tier.ts'
export { nextTurn } from './turns.ts'
