import type { PackedAdapter } from '@quiver/cache'
import type { BaseLayout, SlotIndex } from '@quiver/protocol'
import type { AdapterPools, InputTensor } from './adapter-pools.ts'
import { groupSizes, loraIndex } from './lora-nodes.ts'
import { poolRows, tileRows } from './lora-tiles.ts'
import { poolA, poolB } from './module-groups.ts'
import { type PoolForm, PoolMemory, type PoolOptions } from './pool-memory.ts'

/** For every layer one matrix of A rows for each module group and one of Bᵀ rows for each module; row 0 of each is zero. */
const form: PoolForm = {
  firstRow: 1,
  groupsA: true,
  zeroesToRank: true,
  nameA: (layer, group) => poolA(layer, group),
  nameB: poolB,
}

/** Pools of the standard-operator graph (lora-nodes.ts), which gathers rows from them by index. */
export class StandardPools implements AdapterPools {
  readonly lasting: readonly InputTensor[]
  readonly #memory: PoolMemory
  readonly #ranks: Int32Array
  readonly #maxRank: number

  constructor(layout: BaseLayout, options: PoolOptions) {
    this.#memory = new PoolMemory(layout, options, form)
    this.#ranks = new Int32Array(options.slots)
    this.#maxRank = options.maxRank
    this.lasting = this.#memory.pools.map(({ name, values, features }) => ({
      name,
      type: options.dtype,
      shape: [values.length / features, features],
      data: values.memory,
    }))
  }

  inputsOf(slots: Int32Array<ArrayBuffer>): InputTensor[] {
    const rankOf = (slot: number): number => this.#ranks[slot] ?? 0
    const layout = tileRows(slots, rankOf)
    return [
      { name: 'lora_rows', type: 'i32', shape: [layout.tiles, layout.width], data: layout.rows },
      { name: 'lora_back', type: 'i32', shape: [slots.length], data: layout.back },
      ...groupSizes.map((size): InputTensor => {
        const index = poolRows(layout, size, this.#maxRank, rankOf)
        return { name: loraIndex(size), type: 'i32', shape: [layout.tiles, size * layout.rank], data: index }
      }),
    ]
  }

  async load(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    this.#memory.check(packed)
    this.#ranks[slot] = 0
    await this.#memory.write(slot, packed)
    this.#ranks[slot] = packed.rank
  }

  clear(slot: SlotIndex): void {
    this.#ranks[slot] = 0
  }
}
