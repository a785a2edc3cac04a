/** What the processes of one gateway say to each other, by way of the one that started them. */
import { z } from 'zod'

const id = z.int().nonnegative()
/** Of a process among its siblings, from 0; a process that takes another's place has its slot. */
const slot = z.int().nonnegative()
const topic = z.string().min(1).max(40)

/** To the one that started them. */
export const upwardSchema = z.discriminatedUnion('kind', [
  /** This process serves at `url`. */
  z.object({ kind: z.literal('ready'), url: z.url() }),
  /** `others`: every other process that is ready; `first`: the process of slot 0. */
  z.object({ kind: z.literal('question'), id, to: z.enum(['others', 'first']), topic, body: z.unknown() }),
  z.object({ kind: z.literal('answer'), id, to: slot, body: z.unknown() }),
])
export type Upward = z.infer<typeof upwardSchema>

/** From the one that started them. */
export const downwardSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('question'), id, from: slot, topic, body: z.unknown() }),
  /** How many have been asked. */
  z.object({ kind: z.literal('asked'), id, count: z.int().nonnegative() }),
  /** Without a body from one that knows nothing of the topic. */
  z.object({ kind: z.literal('answer'), id, body: z.unknown() }),
])
export type Downward = z.infer<typeof downwardSchema>
