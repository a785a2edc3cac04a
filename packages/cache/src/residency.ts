import type { AdapterDigest, ErrorCode, SlotIndex, Tier } from '@quiver/protocol'

export type Residency =
  | { readonly state: 'absent' }
  | { readonly state: 'arriving'; readonly tier: Tier; readonly startedAtMs: number }
  | { readonly state: 'resident'; readonly tier: Tier; readonly bytes: number; readonly leaseCount: number }
  | { readonly state: 'quarantined'; readonly untilMs: number; readonly cause: ErrorCode }

/** One slot of the device tier as a planner sees it. `generation` grows each time the slot changes hands. */
export type SlotView =
  | { readonly state: 'free'; readonly slot: SlotIndex; readonly generation: number }
  | { readonly state: 'loading'; readonly slot: SlotIndex; readonly generation: number; readonly digest: AdapterDigest }
  | {
      readonly state: 'resident'
      readonly slot: SlotIndex
      readonly generation: number
      readonly digest: AdapterDigest
      /** Running sequences that compute with this slot. While it is above 0 the slot is never evicted. */
      readonly leaseCount: number
      readonly lastUsedMs: number
      /** What it is worth to keep it here, on the scale of all slots: of those that may go, the least goes. */
      readonly keepScore: number
    }
