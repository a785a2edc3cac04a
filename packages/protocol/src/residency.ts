/** What a worker says of the adapters that it holds, and what it can be told to do with them. */
import { z } from 'zod'
import { adapterRefSchema } from './adapter-ref.ts'
import { errorCodeSchema } from './errors.ts'

/** Where an adapter's weights can be inside a worker, fastest first. Behind the disk stands the origin, which is not a tier. */
export const tiers = ['device', 'ram', 'disk'] as const
export type Tier = (typeof tiers)[number]

const count = z.int().nonnegative()

/** One adapter in its fastest tier. Times are milliseconds from now, so that two clocks never have to agree. */
export const adapterPresenceSchema = z.object({
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  state: z.enum(['resident', 'arriving', 'quarantined']),
  /** Absent while quarantined. `arriving`: where it is on its way to. */
  tier: z.enum(tiers).optional(),
  /** Packed size; 0 while it is not known. */
  bytes: count,
  /** Requests and sequences that keep it where it is. */
  leases: count,
  pinned: z.boolean(),
  /** Of the device tier. */
  slot: count.optional(),
  /** Of a quarantine: why, and how long it lasts. */
  cause: errorCodeSchema.optional(),
  remainingMs: z.number().nonnegative().optional(),
})
export type AdapterPresence = z.infer<typeof adapterPresenceSchema>

/** Answer of a worker's `GET /v1/adapters`, and with `?digest=` of the one adapter alone; one that is nowhere is left out. */
export const adapterPresencesSchema = z.object({
  adapters: z.array(adapterPresenceSchema),
  /** Slots that would have kept every adapter that was asked for again lately; above the slots there are, adapters push each other out. */
  slotsWanted: count,
})
export type AdapterPresences = z.infer<typeof adapterPresencesSchema>

/**
 * What a worker can be told, each at `POST /v1/adapters/<order>`; all are idempotent.
 * `prefetch` loads up to RAM and is answered when the adapter is there; `pin` does the same and keeps it in RAM and on disk until `unpin`;
 * `lift` ends a quarantine before its time and forgets the failures that led to it.
 */
export const adapterOrderKinds = ['prefetch', 'pin', 'unpin', 'lift'] as const
export type AdapterOrderKind = (typeof adapterOrderKinds)[number]

/** Body of an order; the base model cannot be ordered about. The answer is AdapterPresences with this adapter alone. */
export const adapterOrderSchema = z.object({ adapter: adapterRefSchema })
export type AdapterOrder = z.infer<typeof adapterOrderSchema>
