import { limits } from '@quiver/protocol'

/** What an operator may allow the clients of one gateway. */
export interface ClientLimits {
  /** Runs in the house at once. 0: as many as the worker takes. */
  readonly concurrentRequests: number
  readonly bestOf: number
  readonly stopSequences: number
  /** `adapter_source` of LoRAX requests that name an adapter and no source. */
  readonly adapterSource: 'store' | 'local' | 'hub' | 's3'
}

export const defaultClientLimits: ClientLimits = {
  concurrentRequests: 0,
  bestOf: limits.bestOf,
  stopSequences: limits.stopSequences,
  adapterSource: 'store',
}
