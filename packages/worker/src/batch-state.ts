import type { SlotView } from '@quiver/cache'
import type { AdapterActivity, PrefixUsage, TierUsage } from '@quiver/protocol'
import type { BatchCounters } from './step/batch.ts'
import type { TenantTotals } from './step/service-ledger.ts'

/** What the loop is doing, for `GET /v1/state` and tests. */
export interface BatchState extends BatchCounters {
  readonly running: number
  readonly waiting: number
  readonly loading: number
  readonly slots: readonly SlotView[]
  readonly leases: { readonly adapters: number; readonly slots: number }
  /** Absent: there is no prefix cache. */
  readonly prefix?: PrefixUsage
  readonly tenants: readonly TenantTotals[]
  readonly tiers: TierUsage
  readonly adapters: AdapterActivity
}
