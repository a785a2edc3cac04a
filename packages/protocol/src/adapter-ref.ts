import { z } from 'zod'
import { hubTokenSchema } from './hub-token.ts'
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
const hubRefSchema = z.object({
  kind: z.literal('hub'),
  /** `org/name` */
  id: z.string().min(1).max(256),
  /** Branch, tag or commit; absent: `main`. */
  revision: z.string().min(1).max(128).optional(),
  /** The request's own; absent: the worker's, where it has one. */
  token: hubTokenSchema.optional(),
})
const s3RefSchema = z.object({ kind: z.literal('s3'), uri: z.string().min(1).max(4096) })

/** One adapter, which may be a member of a merge. */
const memberRefSchema = z.discriminatedUnion('kind', [registeredRefSchema, localRefSchema, hubRefSchema, s3RefSchema])

const mergedRefSchema = z.object({
  kind: z.literal('merged'),
  /** In the request's order; one adapter may come twice. */
  members: z
    .array(z.object({ ref: memberRefSchema, weight: z.number() }))
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
 * under its roots, a `hub` id with its token, an `s3` folder in its allowed buckets; `merged` is made by the worker out of these.
 */
export const adapterRefSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('base') }),
  registeredRefSchema,
  localRefSchema,
  hubRefSchema,
  s3RefSchema,
  mergedRefSchema,
])
export type AdapterRef = z.infer<typeof adapterRefSchema>
export type MergedRef = Extract<AdapterRef, { kind: 'merged' }>
/** What a merged adapter is made of. */
export type MemberRef = MergedRef['members'][number]['ref']

/** The adapter as the request named it. Never its token. */
export function memberName(ref: MemberRef): string {
  switch (ref.kind) {
    case 'registered':
      return ref.name
    case 'local':
      return ref.path
    case 'hub':
      return ref.revision === undefined ? ref.id : `${ref.id}@${ref.revision}`
    case 's3':
      return ref.uri
  }
}
