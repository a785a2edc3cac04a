import type { AdapterDigest, SlotIndex } from '@quiver/protocol'
import type { PackedAdapter } from '../format/packed-adapter.ts'
import type { SlotView } from '../residency.ts'

/** A running sequence's right to compute with a slot. While it is held the slot keeps its adapter and its generation. */
export interface SlotLease {
  readonly slot: SlotIndex
  readonly generation: number
  readonly digest: AdapterDigest
  /** Idempotent. */
  release(): void
}

/** Which adapter is in which slot of the engine. */
export interface DeviceTier {
  snapshot(): readonly SlotView[]
  /** The slot where this adapter is resident; not while it loads. */
  slotOf(digest: AdapterDigest): SlotIndex | undefined
  /** Evicts the occupant (asserts: no lease), copies the adapter in, then the slot is resident with a new generation. */
  load(slot: SlotIndex, packed: PackedAdapter): Promise<void>
  /** Asserts that the slot is resident with this digest. */
  lease(slot: SlotIndex, digest: AdapterDigest): SlotLease
}
