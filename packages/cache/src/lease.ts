import type { AdapterDigest } from '@quiver/protocol'
import type { PackedAdapter } from './format/packed-adapter.ts'

/**
 * A counted right to use an adapter. From `ready` until `release` its packed weights stay in RAM.
 * `state` goes arriving → ready → released, or arriving → failed → released; a late result never leaves `released`.
 */
export interface AdapterLease {
  readonly digest: AdapterDigest
  readonly name: string
  readonly state: 'arriving' | 'ready' | 'failed' | 'released'
  /** Resolves when ready; rejects with the ServingError that made it fail, or `client_closed` when released before. Never unhandled. */
  readonly ready: Promise<void>
  /** The weights. Asserts that the lease is ready. */
  readonly packed: PackedAdapter
  /** Idempotent. The last release of an arriving adapter cancels its load. */
  release(): void
}
