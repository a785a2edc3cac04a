import type { SlotIndex } from '@quiver/protocol'
import type { PackedAdapter } from './format/packed-adapter.ts'

/** The part of an engine that the device tier needs: places for adapters. The engine implements it. */
export interface DeviceMemory {
  readonly slots: number
  /** Copies an adapter into a slot that no running sequence uses, in slices that do not hold up the event loop. */
  loadAdapter(slot: SlotIndex, packed: PackedAdapter): Promise<void>
  /** Makes a slot's weights zero. */
  clearSlot(slot: SlotIndex): void
}
