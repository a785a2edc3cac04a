import type { Clock, Timers } from '@quiver/protocol'
import type { HubConfig } from '../hub/hub-client.ts'
import { type BucketAccess, BucketOrigin } from './bucket.ts'
import { HubOrigin } from './hub.ts'
import type { OriginLimits } from './origin.ts'

/** How to reach origins beyond this machine, and which of them may be named. */
export interface RemoteAccess {
  readonly hub: Pick<HubConfig, 'endpoint' | 'token'>
  readonly buckets: BucketAccess
  readonly fetch: typeof fetch
  readonly timers: Timers
}

/** @throws ServingError `invalid_request` when an allowed bucket cannot be one */
export function openRemotes(
  { hub, buckets, fetch, timers }: RemoteAccess,
  limits: OriginLimits,
  clock: Clock,
): { readonly hub: HubOrigin; readonly buckets: BucketOrigin } {
  return {
    hub: new HubOrigin(hub, limits, { fetch, timers, clock }),
    buckets: new BucketOrigin(buckets, limits, { timers, clock }),
  }
}
