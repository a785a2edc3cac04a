import type { PackedAdapter } from '@quiver/cache'
import type { SlotIndex } from '@quiver/protocol'
import type { ElementType, TensorMemory } from './ort.ts'

/** An input of the graph with what it is bound to. */
export interface InputTensor {
  readonly name: string
  readonly type: ElementType
  readonly shape: readonly number[]
  readonly data: TensorMemory
}

/** The adapters in an engine's slots, in the memory that the graph's LoRA nodes read. */
export interface AdapterPools {
  /** Inputs that keep their memory for ever. */
  readonly lasting: readonly InputTensor[]
  /** Inputs of one run that say which row uses which slot. @param slots slot of each row, −1 for the base model */
  inputsOf(slots: Int32Array<ArrayBuffer>): InputTensor[]
  /**
   * Copies an adapter into a slot that no running sequence uses, in slices, so that the event loop is never held up.
   * @throws ServingError `internal` when it does not fit
   */
  load(slot: SlotIndex, packed: PackedAdapter): Promise<void>
  clear(slot: SlotIndex): void
}
