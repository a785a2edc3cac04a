/** What an API key is: a random secret that its owner shows, and the entry by which the server knows it. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { limits, priorities, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { RunShare } from './run-share.ts'

/** None includes another. `admin` is for those who run the server. */
export const rights = ['generate', 'publish', 'admin'] as const
export type Right = (typeof rights)[number]

const TENANT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const KEY_BYTES = 32
const ID_BYTES = 6

export const tenantSchema = z.string().regex(TENANT, {
  error: 'must have 1 to 64 letters, digits, ".", "_" and "-", and begin with a letter or digit',
})

const weightSchema = z.number().min(limits.tenantWeightAtLeast).max(limits.tenantWeightAtMost)

export const apiKeySchema = z.object({
  /** For people, lists and logs; says nothing about the secret. */
  id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  /**
   * sha256 of the secret, in hex. One fast hash without a salt is enough because the secret is 256 random bits: it can neither be
   * guessed nor be in a table, which is what slow and salted hashes are for.
   */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  tenant: tenantSchema,
  rights: z.array(z.enum(rights)),
  /** The tenant's share of a worker beside other tenants; absent: 1. Its keys should agree: the latest request's counts. */
  weight: weightSchema.optional(),
  /** The highest priority of its requests; absent: any. */
  priority: z.enum(priorities).optional(),
  /** ISO 8601, UTC. */
  createdAt: z.iso.datetime(),
})
export type ApiKey = Readonly<z.infer<typeof apiKeySchema>>

export interface NewKey extends RunShare {
  readonly tenant: string
  readonly rights: readonly Right[]
}

/**
 * @param deps `drawBytes` gives unpredictable bytes, as node:crypto does
 * @returns the secret, which nothing can give a second time, and the entry to keep
 * @throws ServingError `invalid_request` when the tenant or the weight cannot be one
 */
export function makeKey(
  { tenant, rights: granted, weight, priority }: NewKey,
  { drawBytes, now }: { readonly drawBytes: (size: number) => Buffer; readonly now: () => Date },
): { readonly secret: string; readonly entry: ApiKey } {
  const checked = tenantSchema.safeParse(tenant)
  if (!checked.success) throw new ServingError('invalid_request', `the tenant ${checked.error.issues[0]?.message}`)
  if (weight !== undefined && !weightSchema.safeParse(weight).success) {
    const { tenantWeightAtLeast: least, tenantWeightAtMost: most } = limits
    throw new ServingError('invalid_request', `the weight must be a number from ${least} to ${most}`)
  }
  const secret = `quiver_${drawBytes(KEY_BYTES).toString('base64url')}`
  return {
    secret,
    entry: {
      id: drawBytes(ID_BYTES).toString('hex'),
      hash: sha256(secret).toString('hex'),
      tenant,
      rights: [...new Set(granted)],
      ...(weight === undefined ? {} : { weight }),
      ...(priority === undefined ? {} : { priority }),
      createdAt: now().toISOString(),
    },
  }
}

/** A key with the 32 bytes of its hash. */
export interface KnownKey {
  readonly key: ApiKey
  readonly hash: Uint8Array
}

/** What `matchKey` looks through. Made once: at every request 10,000 hashes would take 16 ms to decode. */
export function knownKeys(keys: readonly ApiKey[]): readonly KnownKey[] {
  return keys.map((key) => ({ key, hash: Buffer.from(key.hash, 'hex') }))
}

/**
 * Finds the key that was shown. Hashes are compared, all of one length and all of them every time, so that the time taken says
 * nothing about how much of a wrong key was right.
 */
export function matchKey(keys: readonly KnownKey[], secret: string, isEqual = timingSafeEqual): ApiKey | undefined {
  const shown = sha256(secret)
  let found: ApiKey | undefined
  for (const { key, hash } of keys) if (isEqual(shown, hash)) found = key
  return found
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}
