import type { DeviceMemory, PackedAdapter } from '@quiver/cache'
import type { AdapterDigest, SlotIndex } from '@quiver/protocol'

/** Device memory that remembers which adapter was copied where. Copies end when `finish` lets them, or in a later turn. */
export class MemoryDevice implements DeviceMemory {
  readonly slots: number
  readonly contents: (AdapterDigest | undefined)[]
  readonly cleared: SlotIndex[] = []
  /** Awaited in the middle of each copy. */
  duringCopy: (slot: SlotIndex, packed: PackedAdapter) => Promise<void> = async () => {}

  constructor(slots: number) {
    this.slots = slots
    this.contents = Array.from({ length: slots }, () => undefined)
  }

  async loadAdapter(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    this.contents[slot] = undefined
    await this.duringCopy(slot, packed)
    this.contents[slot] = packed.digest
  }

  clearSlot(slot: SlotIndex): void {
    this.contents[slot] = undefined
    this.cleared.push(slot)
  }
}
