/** Bodies and query parameters of the admin routes. What they do not know is refused: a typo must not be a wish that nobody hears. */
import { adapterSourceSchema } from '@quiver/cache/origin'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { tenantSchema } from '../../auth/api-key.ts'
import { metadataSchema } from '../../catalogue/provenance.ts'

const name = z.string().min(1).max(256)
const alias = z.string().min(1).max(64)
const expected = z
  .int()
  .nonnegative()
  .describe('The version that the alias names now, as far as the caller knows (0: none); 409 where it names another.')

/** What is wished for a version that is published. */
const wishes = {
  alias: z
    .union([alias, z.array(alias).max(16)])
    .describe('Which alias, or aliases, shall mean it: `latest` without it, none for an empty list.')
    .optional(),
  pin: z.boolean().describe('Whether the name is pinned; without it that stays as it is.').optional(),
  metadata: metadataSchema.describe('Texts by name, for people.').optional(),
  expected: expected.optional(),
  base: z.string().max(256).describe('Which of the served base models it shall fit; the usual one without it.').optional(),
  tenant: tenantSchema.describe('To whom alone it shall be visible; only an operator may say it.').optional(),
}

export const publishSchema = z.strictObject({
  name: name.describe("The adapter's name, such as `acme/sql`."),
  source: adapterSourceSchema.describe('Where its files are.'),
  ...wishes,
})

/** The same as texts, of a form or of a query. */
export const uploadFieldsSchema = z.strictObject({
  alias: z.string().max(1100).optional(),
  pin: z.enum(['true', 'false']).optional(),
  metadata: z
    .string()
    .max(32 * 1024)
    .optional(),
  expected: z
    .string()
    .regex(/^[0-9]{1,9}$/, { error: 'must be a whole number' })
    .optional(),
  tenant: tenantSchema.optional(),
  base: z.string().max(256).optional(),
  session: z.string().max(200).optional(),
})
/** Of a form: its base has to be known before its first byte is read. */
export const uploadQuerySchema = z.strictObject({ base: z.string().max(256).optional() })
export type UploadFields = z.infer<typeof uploadFieldsSchema>

export const aliasSchema = z.strictObject({
  version: z.int().positive().describe('What it shall mean.'),
  expected: expected.optional(),
})

export const canarySchema = z.strictObject({
  version: z.int().positive().describe('Which version answers the share.'),
  share_percent: z.number().gt(0).lt(100).describe("Which share of the alias's users it answers."),
  alias: alias.describe('Whose users; `latest` without it.').optional(),
  expected: expected.optional(),
})

export const rollbackSchema = z.strictObject({
  alias: alias.describe('`latest` without it.').optional(),
  expected: expected.optional(),
})

export const versionSchema = z.strictObject({
  version: z.int().positive().describe('Only this version; all, or what the name means now, without it.').optional(),
})

const whole = (max: number) =>
  z
    .string()
    .regex(/^[0-9]{1,9}$/, { error: `must be a whole number from 1 to ${max}` })
    .transform(Number)
    .refine((value) => value >= 1 && value <= max, { error: `must be a whole number from 1 to ${max}` })

export const pageQuerySchema = z.strictObject({
  prefix: z.string().max(256).optional(),
  limit: whole(1000).optional(),
  cursor: z.string().max(512).optional(),
  retired: z.enum(['true', 'false']).optional(),
})
export const auditQuerySchema = z.strictObject({
  limit: whole(500).optional(),
  cursor: z.string().max(512).optional(),
  name: name.optional(),
})
export const jobsQuerySchema = z.strictObject({ limit: whole(500).optional() })
export const retireQuerySchema = z.strictObject({ version: whole(999_999_999).optional() })
export const aliasQuerySchema = z.strictObject({
  alias: alias.optional(),
  expected: z
    .string()
    .regex(/^[0-9]{1,9}$/)
    .transform(Number)
    .optional(),
})

/** @throws ServingError `invalid_parameters` with every reason. Values are not repeated: one of them may be a token */
export function parseAs<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const reasons = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `\`${path.join('.')}\` ${message}`,
  )
  throw new ServingError('invalid_parameters', [...new Set(reasons)].slice(0, 12).join('; '))
}
