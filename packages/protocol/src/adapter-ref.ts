import { z } from 'zod'
import { limits } from './limits.ts'

export const mergeStrategies = ['linear', 'ties', 'dare_linear', 'dare_ties'] as const
export type MergeStrategy = (typeof mergeStrategies)[number]

/** How `ties` and `dare_ties` elect a sign: `total` by the sum of the values, `frequency` by their number. */
export const majoritySigns = ['total', 'frequency'] as const
export type MajoritySign = (typeof majoritySigns)[number]

const registeredRefSchema = z.object({
  kind: z.literal('registered'),
  name: z.string().min(1),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
})
const localRefSchema = z.object({ kind: z.literal('local'), path: z.string().min(1).max(4096) })

const mergedRefSchema = z.object({
  kind: z.literal('merged'),
  /** In the request's order; one adapter may come twice. */
  members: z
    .array(z.object({ ref: z.discriminatedUnion('kind', [registeredRefSchema, localRefSchema]), weight: z.number() }))
    .min(1)
    .max(limits.mergedAdapters),
  strategy: z.enum(mergeStrategies),
  /** Share of each member's values that is kept; 1 keeps all. Without effect for `linear`. */
  density: z.number().positive().max(1),
  /** Without effect for `linear` and `dare_linear`. */
  sign: z.enum(majoritySigns),
})

/**
 * Which weights a request wants. `registered` is bound to a digest by the gateway; a `local` path is resolved by the worker
 * under its roots; `merged` is made by the worker out of both kinds.
 */
export const adapterRefSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('base') }),
  registeredRefSchema,
  localRefSchema,
  mergedRefSchema,
])
export type AdapterRef = z.infer<typeof adapterRefSchema>
export type MergedRef = Extract<AdapterRef, { kind: 'merged' }>
/** What a merged adapter is made of. */
export type MemberRef = MergedRef['members'][number]['ref']
