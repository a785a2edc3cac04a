/** What a caller's requests weigh beside those of other tenants, and which of its own go first. */
import type { IncomingHttpHeaders } from 'node:http'
import { type Priority, priorities, ServingError } from '@quiver/protocol'

export interface RunShare {
  /** The tenant's share of a worker beside other tenants; absent: 1. */
  readonly weight?: number
  readonly priority?: Priority
}

const HEADER = 'x-priority'

/**
 * A request may name its priority, which orders the tenant's own requests; one above the key's highest counts as that.
 * @param most of the caller's key; absent: any priority
 * @throws ServingError `invalid_parameters` for a priority that there is not
 */
export function runShare({ weight, priority: most }: RunShare, headers: IncomingHttpHeaders): RunShare {
  const text = headers[HEADER]
  const own = weight === undefined ? {} : { weight }
  if (text === undefined) return most === 'low' ? { ...own, priority: most } : own
  const asked = priorities.find((known) => known === text)
  if (asked === undefined) {
    throw new ServingError('invalid_parameters', `the header \`${HEADER}\` must be one of ${priorities.join(', ')}`)
  }
  return { ...own, priority: lower(asked, most ?? 'high') }
}

function lower(a: Priority, b: Priority): Priority {
  return priorities.indexOf(a) < priorities.indexOf(b) ? a : b
}
