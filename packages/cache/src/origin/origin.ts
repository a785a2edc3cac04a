import type { AdapterDigest } from '@quiver/protocol'
import type { AdapterFiles } from '../format/inspect.ts'

/** Where an adapter was found, exactly enough to look at the same bytes again. */
export type Provenance =
  /** `revision` is the commit that `asked`, a branch, tag or commit, stood for. */
  | { readonly type: 'hub'; readonly id: string; readonly revision: string; readonly asked: string }
  /** `revision` is the etag of the weights. */
  | { readonly type: 's3'; readonly uri: string; readonly revision: string; readonly etags: AdapterEtags }
  /** `path` as it was said: the server's own folders are nobody's business. */
  | { readonly type: 'local'; readonly path: string }
  /** A digest, as `sha256:…`, or a folder of the store. */
  | { readonly type: 'store'; readonly uri: string }
  | { readonly type: 'store'; readonly uri: string; readonly revision: string; readonly etags: AdapterEtags }

export interface AdapterEtags {
  readonly config: string
  readonly weights: string
}

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

/** The same with what a registration wants to know beside. */
export interface FoundAdapter extends OriginAdapter {
  readonly provenance: Provenance
  /**
   * The text of `chat_template.jinja` beside them, where there is one.
   * @throws ServingError as `fetch`
   */
  chatTemplate(signal: AbortSignal): Promise<string | undefined>
}

/** Where adapters come from when no tier has them. What a reference looks like is the origin's own affair. */
export interface Origin<Reference> {
  /** @throws ServingError `adapter_not_found`, `adapter_invalid`, `forbidden`, `too_large`, `source_unavailable` */
  resolve(reference: Reference): Promise<FoundAdapter>
}

/** What an origin may read at most, known before reading. */
export interface OriginLimits {
  readonly maxRank: number
  readonly maxWeightsBytes: number
}
