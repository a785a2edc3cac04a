import { z } from 'zod'
import type { Summary } from './statistics.ts'

export const units = ['ms', 's', 'x', 'tokens/s', 'requests/s', 'GFLOP/s', 'GB/s', 'MB', 'µs', 'loads', 'share', 'nats'] as const
export type Unit = (typeof units)[number]

const targetSchema = z.object({ at: z.enum(['most', 'least']), value: z.number() })
export type Target = z.infer<typeof targetSchema>

/**
 * One measured thing. `MB` and `GB` are millions and milliards of bytes; `x` is a ratio of medians taken in one loop, or of counts;
 * `loads` are counted, `nats` are natural logarithms.
 */
export const figureSchema = z.object({
  /** Stable name, by which notes speak of it: `decode.rows16.different.ratio`. */
  id: z.string().regex(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/),
  group: z.string(),
  label: z.string(),
  unit: z.enum(units),
  /** The median where there are several measurements. */
  value: z.number(),
  spread: z.object({ min: z.number(), p90: z.number(), samples: z.int().positive() }).optional(),
  target: targetSchema.optional(),
})
export type Figure = z.infer<typeof figureSchema>

export type Verdict = 'met' | 'MISSED' | ''

/** '' where nothing was promised. */
export function verdictOf({ value, target }: Figure): Verdict {
  if (target === undefined) return ''
  const isMet = target.at === 'most' ? value <= target.value : value >= target.value
  return isMet ? 'met' : 'MISSED'
}

/** A figure from repeated measurements: its median, with how far they lie apart. */
export function measured(figure: Omit<Figure, 'value' | 'spread'>, { median, min, p90, samples }: Summary): Figure {
  return { ...figure, value: median, spread: { min, p90, samples } }
}
