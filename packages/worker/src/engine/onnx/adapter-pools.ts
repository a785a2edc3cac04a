import { setImmediate as nextTurn } from 'node:timers/promises'
import type { PackedAdapter, PackedArray, PackedDtype } from '@quiver/cache'
import { type BaseLayout, type ModuleName, ServingError, type SlotIndex } from '@quiver/protocol'
import { moduleGroups, poolA, poolB } from './module-groups.ts'

/** How much of a slot is written in one turn of the event loop; about a millisecond. */
const SLICE_BYTES = 4 * 1024 * 1024

interface Pool {
  readonly name: string
  /** [1 + slots·modules·maxRank, features]; row 0 is zero for ever. */
  readonly values: PackedArray
  readonly features: number
  /** Modules whose rows a slot holds here. */
  readonly modules: number
}

/** Where one module of one layer lies: its pool of A rows, as the `part`th of the group, and its pool of Bᵀ rows. */
interface Place {
  readonly a: Pool
  readonly part: number
  readonly b: Pool
}

/**
 * The device tier's memory on a CPU: for every layer one matrix of A rows per module group and one of Bᵀ rows per module,
 * holding all slots. Pages of slots that were never filled, and of ranks never used, are not resident.
 */
export class AdapterPools {
  readonly slots: number
  readonly maxRank: number
  readonly pools: readonly Pool[]
  readonly #places: ReadonlyMap<string, Place>
  readonly #ranks: Int32Array
  readonly #dtype: PackedDtype

  constructor(layout: BaseLayout, options: { readonly slots: number; readonly maxRank: number; readonly dtype: PackedDtype }) {
    this.slots = options.slots
    this.maxRank = options.maxRank
    this.#dtype = options.dtype
    this.#ranks = new Int32Array(options.slots)
    const features = new Map(layout.modules.map((module) => [module.name, module]))
    const pools: Pool[] = []
    const places = new Map<string, Place>()
    const add = (name: string, width: number, modules: number): Pool => {
      const length = (1 + this.slots * modules * this.maxRank) * width
      const values = options.dtype === 'f16' ? new Uint16Array(length) : new Float32Array(length)
      const pool = { name, values, features: width, modules }
      pools.push(pool)
      return pool
    }
    for (let layer = 0; layer < layout.layerCount; layer += 1) {
      for (const group of moduleGroups) {
        const first = features.get(group.modules[0])
        if (!first) throw new ServingError('internal', `the base layout has no module ${group.modules[0]}`)
        const a = add(poolA(layer, group), first.inFeatures, group.modules.length)
        for (const [part, module] of group.modules.entries()) {
          const b = add(poolB(layer, module), features.get(module)?.outFeatures ?? 0, 1)
          places.set(placeKey(layer, module), { a, part, b })
        }
      }
    }
    this.pools = pools
    this.#places = places
  }

  /** The rank a slot's rows must be read to; 0 for an empty slot. */
  rankOf(slot: number): number {
    return this.#ranks[slot] ?? 0
  }

  /** Copies an adapter into a slot that no running sequence uses, a slice a turn. */
  async load(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    if (packed.dtype !== this.#dtype || packed.rank > this.maxRank) {
      throw new ServingError(
        'internal',
        `an adapter of rank ${packed.rank} in ${packed.dtype} does not fit a slot of rank ${this.maxRank} in ${this.#dtype}`,
        { adapter: packed.digest },
      )
    }
    const modules = new Map(packed.modules.map((module) => [placeKey(module.layer, module.module), module]))
    for (const [key, { layer, module }] of modules) {
      if (!this.#places.has(key))
        throw new ServingError('internal', `the base has no module ${module} in layer ${layer}`, { adapter: packed.digest })
    }
    this.#ranks[slot] = 0
    let written = 0
    for (const [key, place] of this.#places) {
      const own = modules.get(key)
      if (own !== undefined) {
        copyRows(place.a, this.#row(place.a, place.part, slot), own.a)
        copyRows(place.b, this.#row(place.b, 0, slot), own.b)
      }
      this.#zero(place, slot, own?.rank ?? 0, packed.rank)
      written += packed.rank * (place.a.features + place.b.features) * place.a.values.BYTES_PER_ELEMENT
      if (written >= SLICE_BYTES) {
        written = 0
        await nextTurn()
      }
    }
    this.#ranks[slot] = packed.rank
  }

  clear(slot: SlotIndex): void {
    this.#ranks[slot] = 0
  }

  #row(pool: Pool, part: number, slot: number): number {
    return 1 + (slot * pool.modules + part) * this.maxRank
  }

  /** Zeroes the rows from rank `from` to `to` of one module, which the slot's last owner may have filled. */
  #zero(place: Place, slot: number, from: number, to: number): void {
    for (const [pool, part] of [
      [place.a, place.part],
      [place.b, 0],
    ] as const) {
      const row = this.#row(pool, part, slot)
      pool.values.fill(0, (row + from) * pool.features, (row + to) * pool.features)
    }
  }
}

const placeKey = (layer: number, module: ModuleName): string => `${layer}.${module}`

function copyRows(pool: Pool, row: number, source: PackedArray): void {
  pool.values.set(source, row * pool.features)
}
