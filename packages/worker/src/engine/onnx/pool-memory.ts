import type { PackedAdapter, PackedDtype } from '@quiver/cache'
import { type BaseLayout, type ModuleName, ServingError, type SlotIndex } from '@quiver/protocol'
import { type ModuleGroup, moduleGroups } from './module-groups.ts'
import { hostStore, type PoolArray, type PoolStore } from './pool-store.ts'

/** How much of a slot is written in one turn of the event loop; about a millisecond. */
const SLICE_BYTES = 4 * 1024 * 1024

/** Rows of one length for all slots: `firstRow` rows that belong to none, then `modules` × maxRank rows for each slot. */
export interface Pool {
  readonly name: string
  readonly values: PoolArray
  readonly features: number
  readonly modules: number
  readonly firstRow: number
}

/** Where one module of one layer lies: its pool of A rows, as the `part`th of its modules, and its pool of Bᵀ rows. */
export interface PoolPlace {
  readonly layer: number
  readonly module: ModuleName
  readonly a: Pool
  readonly part: number
  readonly b: Pool
}

export interface PoolOptions {
  readonly slots: number
  readonly maxRank: number
  readonly dtype: PackedDtype
  /** Absent: the host's memory. */
  readonly store?: PoolStore
}

/** What a way of applying adapters wants its pools to look like. */
export interface PoolForm {
  /** Rows before the first slot's, which stay zero. */
  readonly firstRow: 0 | 1
  /** Whether the A rows of modules that read the same input stand in one pool. */
  readonly groupsA: boolean
  /** Whether rows past a module's own rank are read, up to the adapter's rank, and must be zero. */
  readonly zeroesToRank: boolean
  nameA(layer: number, group: ModuleGroup, module: ModuleName): string
  nameB(layer: number, module: ModuleName): string
}

/**
 * The device tier's memory: matrices of A rows and of Bᵀ rows that hold all slots.
 */
export class PoolMemory {
  readonly pools: readonly Pool[]
  /** Layer after layer, in the order of `moduleGroups`. */
  readonly places: readonly PoolPlace[]
  readonly #options: PoolOptions
  readonly #store: PoolStore
  readonly #form: PoolForm

  constructor(layout: BaseLayout, options: PoolOptions, form: PoolForm) {
    this.#options = options
    this.#store = options.store ?? hostStore
    this.#form = form
    const features = new Map(layout.modules.map((module) => [module.name, module]))
    const shapeOf = (module: ModuleName) => {
      const shape = features.get(module)
      if (!shape) throw new ServingError('internal', `the base layout has no module ${module}`)
      return shape
    }
    const pools = new Map<string, Pool>()
    const places: PoolPlace[] = []
    for (let layer = 0; layer < layout.layerCount; layer += 1) {
      for (const group of moduleGroups) {
        for (const [index, module] of group.modules.entries()) {
          const shape = shapeOf(module)
          const nameA = form.nameA(layer, group, module)
          const modules = form.groupsA ? group.modules.length : 1
          const a = pools.get(nameA) ?? this.#pool(nameA, shape.inFeatures, modules)
          const b = this.#pool(form.nameB(layer, module), shape.outFeatures, 1)
          for (const pool of [a, b]) pools.set(pool.name, pool)
          places.push({ layer, module, a, part: form.groupsA ? index : 0, b })
        }
      }
    }
    this.pools = [...pools.values()]
    this.places = places
  }

  #pool(name: string, features: number, modules: number): Pool {
    const { slots, maxRank, dtype } = this.#options
    const { firstRow } = this.#form
    const length = (firstRow + slots * modules * maxRank) * features
    return { name, values: this.#store.array(length, dtype), features, modules, firstRow }
  }

  /**
   * Checks that an adapter fits, which it does unless something else is broken.
   * @throws ServingError `internal`
   */
  check(packed: PackedAdapter): void {
    const { dtype, maxRank } = this.#options
    if (packed.dtype !== dtype || packed.rank > maxRank) {
      throw new ServingError(
        'internal',
        `an adapter of rank ${packed.rank} in ${packed.dtype} does not fit a slot of rank ${maxRank} in ${dtype}`,
        { adapter: packed.digest },
      )
    }
    const known = new Set(this.places.map(({ layer, module }) => placeKey(layer, module)))
    for (const { layer, module } of packed.modules) {
      if (!known.has(placeKey(layer, module)))
        throw new ServingError('internal', `the base has no module ${module} in layer ${layer}`, { adapter: packed.digest })
    }
  }

  /** Copies an adapter that was checked into a slot that no running sequence uses, a slice a turn. */
  async write(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    const modules = new Map(packed.modules.map((module) => [placeKey(module.layer, module.module), module]))
    let written = 0
    for (const place of this.places) {
      const own = modules.get(placeKey(place.layer, place.module))
      if (own !== undefined) {
        place.a.values.put(own.a, this.#row(place.a, place.part, slot) * place.a.features)
        place.b.values.put(own.b, this.#row(place.b, 0, slot) * place.b.features)
      }
      if (this.#form.zeroesToRank) this.#zero(place, slot, own?.rank ?? 0, packed.rank)
      const rows = this.#form.zeroesToRank ? packed.rank : (own?.rank ?? 0)
      written += rows * (place.a.features + place.b.features) * place.a.values.elementBytes
      if (written >= SLICE_BYTES) {
        written = 0
        await this.#store.rest()
      }
    }
    await this.#store.settle()
  }

  #row(pool: Pool, part: number, slot: number): number {
    return pool.firstRow + (slot * pool.modules + part) * this.#options.maxRank
  }

  /** Zeroes the rows from rank `from` to `to` of one module, which the slot's last owner may have filled. */
  #zero(place: PoolPlace, slot: number, from: number, to: number): void {
    for (const [pool, part] of [
      [place.a, place.part],
      [place.b, 0],
    ] as const) {
      const row = this.#row(pool, part, slot)
      pool.values.zero((row + from) * pool.features, (row + to) * pool.features)
    }
  }
}

const placeKey = (layer: number, module: ModuleName): string => `${layer}.${module}`
