/**
 * What a worker tells every gateway that listens at `GET /v1/events`: lines of JSON, first a snapshot, then a delta for every change.
 * `epoch` is new with every start of the worker, `sequence` grows by one with every line of an epoch. A gateway that sees a gap or another
 * epoch connects again and so gets a snapshot. A line that is empty keeps the connection alive.
 */
import { z } from 'zod'
import { tiers } from './residency.ts'

const count = z.int().nonnegative()
const milliseconds = z.number().nonnegative()
const digest = z.string().regex(/^[0-9a-f]{64}$/)

/** What a load costs, from one place to the device: fixedMs + msPerMib × size. */
const reloadSchema = z.object({ fixedMs: milliseconds, msPerMib: milliseconds })

/** How busy a worker is, and how fast. */
export const workerLoadSchema = z.object({
  /** `draining`: it finishes what it has and takes what arrives late, but nobody should send it more. So is a state not known here. */
  state: z.enum(['ready', 'draining']).catch('draining'),
  running: count,
  waiting: count,
  /** Prompt tokens that it has still to compute. */
  queuedTokens: count,
  /** Prompt tokens a second, measured beside its running sequences. */
  tokensPerSecond: z.number().positive(),
  /** How long the step in progress has been running: a step that takes very long is one that hangs. */
  stepAgeMs: milliseconds.optional(),
  /** Mean time between two sequences that end while it is full. */
  turnoverMs: milliseconds,
  freeSlots: count,
  /** Whether one more adapter finds a slot without waiting for a sequence to end. */
  hasSlotToGive: z.boolean(),
  /** The adapter that a load would push out: how often it is asked for, and how long it takes to come back. */
  victim: z.object({ requestsPerSecond: z.number().nonnegative(), reloadMs: milliseconds }),
  reload: z.object({ ram: reloadSchema, disk: reloadSchema, origin: reloadSchema }),
})
export type WorkerLoad = z.infer<typeof workerLoadSchema>

/** The fastest tier that has an adapter; `arriving`: on its way into the device. A place not known here is taken for the slowest. */
const heldSchema = z.enum([...tiers, 'arriving']).catch('disk')
export type HeldPresence = z.infer<typeof heldSchema>

const stamp = { epoch: z.string().min(1).max(64), sequence: count }

export const workerEventSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('snapshot'),
    ...stamp,
    load: workerLoadSchema,
    adapters: z.array(z.object({ digest, presence: heldSchema })),
  }),
  z.object({
    type: z.literal('delta'),
    ...stamp,
    load: workerLoadSchema.optional(),
    adapters: z.array(z.object({ digest, presence: z.enum([...tiers, 'arriving', 'absent']).catch('disk') })).optional(),
  }),
])
export type WorkerEvent = z.infer<typeof workerEventSchema>

const strangeEventSchema = z.object({ type: z.string().refine((type) => type !== 'snapshot' && type !== 'delta'), ...stamp })

/**
 * What one line says. A message of a kind that is not known here, from a worker of another version, says nothing but that it came.
 * @throws ZodError
 */
export function parseWorkerEvent(value: unknown): WorkerEvent {
  const strange = strangeEventSchema.safeParse(value)
  if (!strange.success) return workerEventSchema.parse(value)
  const { epoch, sequence } = strange.data
  return { type: 'delta', epoch, sequence }
}
