/** One change that somebody made, as the audit log keeps it. */
import { z } from 'zod'
import { tenantSchema } from '../auth/api-key.ts'

/** Who did it. */
export interface Actor {
  readonly tenant: string
  /** Absent when the server has no keys, or when it acted by itself. */
  readonly keyId?: string | undefined
}

export interface AuditEvent {
  /** ISO 8601, UTC. */
  readonly at: string
  readonly actor: Actor
  /** Such as `publish`, `alias.move` or `adapter.retire`. */
  readonly action: string
  /** What it was done to: an adapter's name. */
  readonly subject: string
  /** What was before and what is now, as far as it changed. */
  readonly before: AuditDetail
  readonly after: AuditDetail
}

export type AuditDetail = Readonly<Record<string, unknown>>

/** Who acts when the server itself does. */
export const theServer: Actor = { tenant: 'system' }

export const auditEventSchema = z.object({
  at: z.iso.datetime(),
  actor: z.object({ tenant: tenantSchema, keyId: z.string().max(64).optional() }),
  action: z.string().min(1).max(64),
  subject: z.string().max(256),
  before: z.record(z.string(), z.unknown()),
  after: z.record(z.string(), z.unknown()),
})
