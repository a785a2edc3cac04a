import type { WorkerEvent } from '@quiver/protocol'

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
  /** Asked for every load from the origin. */
  originFails(): boolean
}
