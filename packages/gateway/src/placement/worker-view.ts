import type { Tier } from '@quiver/protocol'

/** Where a worker has an adapter; `arriving`: it is being loaded into the device; absent: nowhere in the worker. */
export type Presence = Tier | 'arriving' | 'absent'

/**
 * What a gateway believes of one worker: its last report, plus what this gateway has sent it since and the worker has not
 * acknowledged. Only workers that serve the request's base model are candidates, so a view says nothing of models.
 */
export interface WorkerView {
  readonly id: string
  /** `hashText(id)`, kept so that a decision hashes no text. */
  readonly hash: number
  /** Healthy, not draining, not ejected. Health comes before residency. */
  readonly accepts: boolean
  /** Sequences that it runs at once. */
  readonly sequences: number
  /** Requests that it runs or keeps waiting. */
  readonly requests: number
  /** Prompt tokens that it has still to compute. */
  readonly queuedTokens: number
  /** Prompt tokens a second, as measured beside its running sequences; above 0. */
  readonly tokensPerSecond: number
  /** Mean time between two sequences that end while it is full, in ms: how long a place in the batch takes to come free. */
  readonly turnoverMs: number
  /** Slots that hold nothing. */
  readonly freeSlots: number
  /** Whether one more adapter finds a slot without waiting for a running sequence to end. */
  readonly hasSlotToGive: boolean
  /** What a load pushes out when no slot is free: how often it is asked for, and how long it takes to come back. */
  readonly victim: { readonly requestsPerSecond: number; readonly reloadMs: number }
  presence(adapter: string): Presence
  /** Time from each place to the device for an adapter of so many bytes, in ms, as this worker has measured it. */
  loadMs(presence: Presence, bytes: number): number
}

/** What is to be placed. */
export interface PlacementRequest {
  /** Digest of the adapter, or whatever names it before its digest is known; absent for the base model. */
  readonly adapter?: string
  /** Packed size; where it is not known, that of a usual adapter. */
  readonly bytes: number
  readonly promptTokens: number
}
