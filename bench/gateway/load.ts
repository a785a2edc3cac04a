/** What the load generator is told to do, and what it says of it. */
import { z } from 'zod'

const target = z.object({
  url: z.url(),
  path: z.string(),
  body: z.string(),
  headers: z.record(z.string(), z.string()),
  seconds: z.number().positive(),
  /** Of which nothing is told. */
  warmupSeconds: z.number().nonnegative(),
})

/**
 * `open`: requests at random moments, whatever becomes of those before. `closed`: each connection asks again as soon as it is answered.
 * `tokens`: the same for streams, of which events are counted.
 */
export const loadSchema = z.discriminatedUnion('kind', [
  target.extend({ kind: z.literal('open'), perSecond: z.number().positive(), seed: z.int() }),
  target.extend({ kind: z.literal('closed'), connections: z.int().positive() }),
  target.extend({ kind: z.literal('tokens'), connections: z.int().positive() }),
])
export type Load = z.infer<typeof loadSchema>

export const loadResultSchema = z.object({
  /** Requests answered in the time that counts, and what was not answered with 200. */
  answered: z.number(),
  failed: z.number(),
  /** Events of streams, the ones that say that it is over left out. */
  events: z.number(),
  seconds: z.number(),
  /** From the sending of a request to the end of its answer; of at most 100,000 requests. */
  latenciesMs: z.array(z.number()),
  firstFailure: z.string().optional(),
})
export type LoadResult = z.infer<typeof loadResultSchema>
