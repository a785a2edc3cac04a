/** `quiver.json`: how a drop shall be published. The same wishes as of a publication over REST. */
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { tenantSchema } from '../auth/api-key.ts'
import { parseAlias } from '../catalogue/adapter-reference.ts'
import { metadataSchema } from '../catalogue/provenance.ts'

export const MAX_OPTIONS_BYTES = 64 * 1024

const alias = z.string().min(1).max(64)
const optionsSchema = z.strictObject({
  /** Which alias, or aliases, shall mean it: `latest` without it, none for an empty list. */
  alias: z.union([alias, z.array(alias).max(16)]).optional(),
  pin: z.boolean().optional(),
  /** Whether workers shall load it at once. */
  prewarm: z.boolean().optional(),
  metadata: metadataSchema.optional(),
  tenant: tenantSchema.optional(),
  /** Which of several base models it is for; the usual one without it. */
  base: z.string().min(1).max(256).optional(),
})

export interface DropOptions extends Omit<z.infer<typeof optionsSchema>, 'alias'> {
  readonly aliases?: readonly string[]
}

/**
 * Unknown fields are refused: a typo must not be a wish that nobody hears.
 * @throws ServingError `invalid_parameters` with every reason
 * @example parseDropOptions(new TextEncoder().encode('{"alias": "stable", "pin": true}'))
 */
export function parseDropOptions(bytes: Uint8Array): DropOptions {
  const parsed = optionsSchema.safeParse(jsonOf(bytes))
  if (!parsed.success) {
    const reasons = parsed.error.issues.map(({ path, message }) =>
      path.length === 0 ? `quiver.json: ${message}` : `quiver.json: \`${path.join('.')}\` ${message}`,
    )
    throw new ServingError('invalid_parameters', [...new Set(reasons)].slice(0, 12).join('; '))
  }
  const { alias: named, ...options } = parsed.data
  const aliases = typeof named === 'string' ? [named] : named
  for (const one of aliases ?? []) parseAlias(one)
  return { ...options, ...(aliases === undefined ? {} : { aliases }) }
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new ServingError('invalid_parameters', 'quiver.json is not JSON in UTF-8', {}, { cause })
  }
}
