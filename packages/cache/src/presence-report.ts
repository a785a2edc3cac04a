import type { AdapterDigest, AdapterPresence, SlotIndex } from '@quiver/protocol'
import { assertNever } from '@quiver/protocol'
import type { Residency } from './residency.ts'

/** Adapters in one report; the slowest tier's are left out first. */
const REPORTED = 10_000

export interface PresenceView {
  /** Fastest tier first; one that comes again is reported once. */
  readonly digests: Iterable<AdapterDigest>
  readonly residency: (digest: AdapterDigest) => Residency
  readonly slotOf: (digest: AdapterDigest) => SlotIndex | undefined
  readonly isPinned: (digest: AdapterDigest) => boolean
  readonly nowMs: number
}

/** What a worker tells others of its adapters; those that are nowhere are left out. */
export function reportPresences(view: PresenceView): AdapterPresence[] {
  const seen = new Set<AdapterDigest>()
  const adapters: AdapterPresence[] = []
  for (const digest of view.digests) {
    if (adapters.length >= REPORTED) break
    if (seen.has(digest)) continue
    seen.add(digest)
    const presence = presenceOf(digest, view)
    if (presence !== undefined) adapters.push(presence)
  }
  return adapters
}

function presenceOf(digest: AdapterDigest, view: PresenceView): AdapterPresence | undefined {
  const residency = view.residency(digest)
  const common = { digest, bytes: 0, leases: 0, pinned: view.isPinned(digest) }
  switch (residency.state) {
    case 'absent':
      return undefined
    case 'arriving':
      return { ...common, state: 'arriving', tier: residency.tier }
    case 'quarantined': {
      const remainingMs = Math.max(0, residency.untilMs - view.nowMs)
      return { ...common, state: 'quarantined', cause: residency.cause, remainingMs }
    }
    case 'resident': {
      const { tier, bytes, leaseCount } = residency
      const slot = tier === 'device' ? view.slotOf(digest) : undefined
      return { ...common, state: 'resident', tier, bytes, leases: leaseCount, ...(slot === undefined ? {} : { slot }) }
    }
    default:
      return assertNever(residency)
  }
}
