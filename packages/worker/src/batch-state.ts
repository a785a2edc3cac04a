import type { AdapterCache, SlotView } from '@quiver/cache'
import type { AdapterActivity, PrefixUsage, TierUsage } from '@quiver/protocol'
import type { Batch, BatchCounters } from './step/batch.ts'
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

export interface StateParts {
  readonly batch: Batch
  readonly cache: Pick<AdapterCache, 'device' | 'usage' | 'activity'>
  readonly waiting: number
  readonly loading: number
  readonly prefix?: PrefixUsage | undefined
}

/** A copy of what a loop's parts say now. */
export function batchStateOf({ batch, cache, waiting, loading, prefix }: StateParts): BatchState {
  const slots = cache.device.snapshot()
  return {
    ...batch.counters,
    finished: { ...batch.counters.finished },
    running: batch.runningCount,
    waiting,
    loading,
    slots,
    leases: {
      adapters: batch.adapterLeaseCount,
      slots: slots.reduce((sum, slot) => sum + (slot.state === 'resident' ? slot.leaseCount : 0), 0),
    },
    ...(prefix && { prefix }),
    tenants: batch.ledger.totals(),
    tiers: cache.usage(),
    adapters: cache.activity(),
  }
}
