import { z } from 'zod'

const count = z.int().nonnegative()

/** What a gateway reads of a worker's `GET /v1/state`. Counters count from the worker's start, bytes are whole bytes. */
export const workerStateSchema = z.object({
  running: count,
  waiting: count,
  loading: count,
  slots: z.array(
    z.object({
      state: z.enum(['free', 'loading', 'resident']),
      slot: count.optional(),
      /** Of the adapter that is in it or on its way into it. */
      digest: z.string().optional(),
      leaseCount: count.optional(),
    }),
  ),
  leases: z.object({ adapters: count, slots: count }),
  steps: count,
  failedSteps: count,
  prefillRows: count,
  decodeRows: count,
  admitted: count,
  loads: count,
  finished: z.record(z.string(), count),
  tiers: z.object({
    device: z.object({ bytes: count, evicted: count }),
    ram: z.object({ bytes: count, heldBytes: count, evicted: count, budgetBytes: count }),
    disk: z.object({ bytes: count, hits: count, misses: count, damaged: count, evicted: count, writeFailures: count }),
  }),
  adapters: z.object({
    /** Where requests found their adapter when they came: in a slot, in memory, on its way for somebody else, or not yet. */
    found: z.object({ device: count, ram: count, arriving: count, absent: count }),
    /** Adapters brought into memory, by where from. */
    arrived: z.object({ disk: count, origin: count, merge: count }),
    failedLoads: count,
    /** Slots that would have kept every adapter that was asked for again lately. */
    slotsWanted: count,
    pinned: count,
    pinnedBytes: count,
    quarantined: count,
  }),
})
export type WorkerState = z.infer<typeof workerStateSchema>
export type TierUsage = WorkerState['tiers']
export type AdapterActivity = WorkerState['adapters']
