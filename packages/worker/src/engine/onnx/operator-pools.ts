import type { PackedAdapter } from '@quiver/cache'
import { type BaseLayout, type ModuleName, moduleNames, type SlotIndex } from '@quiver/protocol'
import type { AdapterPools, InputTensor } from './adapter-pools.ts'
import { moduleGroups } from './module-groups.ts'
import { type PoolForm, PoolMemory, type PoolOptions } from './pool-memory.ts'

/** Names of graph inputs: the pool of one module's A rows, and of its Bᵀ rows. */
export const operatorPoolA = (layer: number, module: ModuleName): string => `lora_a.${layer}.${module}`
export const operatorPoolB = (layer: number, module: ModuleName): string => `lora_b.${layer}.${module}`

/** Modules in the order in which the operator's nodes meet them; their ranks stand in that order, layer after layer. */
const siteModules: readonly ModuleName[] = moduleGroups.flatMap(({ modules }) => modules)

/** Row of `lora_rank` that holds the ranks of one module of one layer. */
export function rankSite(layer: number, module: ModuleName): number {
  return layer * moduleNames.length + siteModules.indexOf(module)
}

/** A pool for each module, [slots, maxRank, features]. What lies past an adapter's own rank is never read. */
const form: PoolForm = {
  firstRow: 0,
  groupsA: false,
  zeroesToRank: false,
  nameA: (layer, _group, module) => operatorPoolA(layer, module),
  nameB: operatorPoolB,
}

/** Pools of the graph with quiver::Lora (operator-nodes.ts). */
export class OperatorPools implements AdapterPools {
  readonly lasting: readonly InputTensor[]
  readonly #memory: PoolMemory
  readonly #slots: number
  /** [layers · modules, slots] */
  readonly #ranks: Int32Array<ArrayBuffer>
  /** A device gets its own copy of what is bound: there the ranks are bound for every run. */
  readonly #ranksLast: boolean

  constructor(layout: BaseLayout, options: PoolOptions) {
    const { slots, maxRank, dtype } = options
    const sites = layout.layerCount * moduleNames.length
    this.#memory = new PoolMemory(layout, options, form)
    this.#slots = slots
    this.#ranks = new Int32Array(sites * slots)
    this.#ranksLast = options.store?.sharesHostMemory ?? true
    this.lasting = [
      ...this.#memory.pools.map(
        ({ name, values, features }): InputTensor => ({
          name,
          type: dtype,
          shape: [slots, maxRank, features],
          data: values.memory,
        }),
      ),
      ...(this.#ranksLast ? [this.#rankTable()] : []),
      // An adapter's scale is in its B since it was packed.
      { name: 'lora_scale', type: 'f32', shape: [slots], data: new Float32Array(slots).fill(1) },
    ]
  }

  inputsOf(slots: Int32Array<ArrayBuffer>): InputTensor[] {
    const slotOfRows: InputTensor = { name: 'lora_slot', type: 'i32', shape: [slots.length], data: slots }
    return this.#ranksLast ? [slotOfRows] : [slotOfRows, this.#rankTable()]
  }

  #rankTable(): InputTensor {
    const shape = [this.#ranks.length / this.#slots, this.#slots]
    return { name: 'lora_rank', type: 'i32', shape, data: this.#ranks }
  }

  async load(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    this.#memory.check(packed)
    this.clear(slot)
    await this.#memory.write(slot, packed)
    for (const { layer, module, rank } of packed.modules) this.#ranks[rankSite(layer, module) * this.#slots + slot] = rank
  }

  clear(slot: SlotIndex): void {
    for (let at = slot as number; at < this.#ranks.length; at += this.#slots) this.#ranks[at] = 0
  }
}
