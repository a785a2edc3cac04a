import { dtypes } from '@quiver/protocol'
import { z } from 'zod'
import { figureSchema } from './figure.ts'
import { machineSchema } from './machine.ts'

/** One run of one bench, as it is kept. */
export const benchResultSchema = z.object({
  /** Grows when readers must change. */
  format: z.literal(1),
  bench: z.string(),
  /** ISO 8601, UTC. */
  startedAt: z.string(),
  durationSeconds: z.number(),
  /** `+changes` is added to it where files differed from the commit. */
  commit: z.string(),
  seed: z.int(),
  /** Fewer repetitions: good for a first look, not for claims. */
  quick: z.boolean(),
  /** Which parts ran, where not all did. */
  only: z.string().optional(),
  model: z.string(),
  dtype: z.enum(dtypes),
  threads: z.int().positive(),
  machine: machineSchema,
  versions: z.record(z.string(), z.string()),
  figures: z.array(figureSchema),
})
export type BenchResult = z.infer<typeof benchResultSchema>
