import type { AdapterDigest } from '@quiver/protocol'
import type { AdapterFiles } from '../format/inspect.ts'

/** An adapter found at its origin: what it is, and a way to its bytes. */
export interface OriginAdapter {
  readonly digest: AdapterDigest
  /**
   * Reads both files and verifies that they are still the ones of `digest`.
   * @throws ServingError `adapter_not_found`, `adapter_invalid`, `conflict` (changed meanwhile), `too_large`,
   * `source_unavailable`, or `client_closed` when `signal` was aborted
   */
  fetch(signal: AbortSignal): Promise<AdapterFiles>
}

/** Where adapters come from when no tier has them. What a reference looks like is the origin's own affair. */
export interface Origin<Reference> {
  /** @throws ServingError `adapter_not_found`, `adapter_invalid`, `forbidden`, `too_large`, `source_unavailable` */
  resolve(reference: Reference): Promise<OriginAdapter>
}

/** What an origin may read at most, known before reading. */
export interface OriginLimits {
  readonly maxRank: number
  readonly maxWeightsBytes: number
}
