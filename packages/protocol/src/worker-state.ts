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
  /** Rows of tokens that had been guessed, and how many of them gave a token; absent: nobody guesses. */
  drafted: count.optional(),
  accepted: count.optional(),
  admitted: count,
  loads: count,
  finished: z.record(z.string(), count),
  /** The cache of what prompts begin with; absent: there is none. */
  prefix: z
    .object({
      /** Admitted sequences that could have used it, by whether they found anything. */
      hits: count,
      misses: count,
      /** Prompt tokens that were not computed because they were there. */
      cachedTokens: count,
      blocks: count,
      bytes: count,
      budgetBytes: count,
      /** Blocks that made room for others. */
      evicted: count,
    })
    .optional(),
  /** Of each of the first tenants, and of all further ones together as ""; absent from workers before there were tenants. */
  tenants: z
    .array(
      z.object({
        tenant: z.string(),
        waiting: count,
        running: count,
        /** Virtual tokens since the start: 1 for one of a prompt, 2 for one of an answer. */
        servedTokens: count,
      }),
    )
    .optional(),
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
export type PrefixUsage = NonNullable<WorkerState['prefix']>
export type TierUsage = WorkerState['tiers']
export type AdapterActivity = WorkerState['adapters']
