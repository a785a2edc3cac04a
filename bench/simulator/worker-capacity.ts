import type { WorkerEvent } from '@quiver/protocol'
import type { Content, Contents } from './contents.ts'

export interface WorkerCapacity {
  readonly sequences: number
  readonly slots: number
  readonly chunkTokens: number
  /** Of the places, for tenants who are expected back; absent: none. */
  readonly reservedShare?: number
  readonly ramBytes: number
  /** Chunks are cut to what running streams can bear, as a worker does; absent: they are whole. */
  readonly keepsPace?: boolean
}

/** The world around a worker. */
export interface WorkerSurroundings {
  /** Takes an event at the moment it is sent. */
  send(event: WorkerEvent): void
  readonly contents: Contents
  /** What a load from the origin brings of what the origin has; undefined: nothing, it fails. */
  fetched(content: Content): Content | undefined
}
