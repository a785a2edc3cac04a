import type { ModuleGroup } from './module-groups.ts'

/** One place in a graph where adapters add to a product. */
export interface LoraSite {
  readonly layer: number
  readonly group: ModuleGroup
  /** Name of the product's input, [rows, in]. */
  readonly x: string
  readonly inFeatures: number
  /** Out features of the group's modules. */
  readonly outFeatures: readonly number[]
}

/** The LoRA part of a graph that is being built. */
export interface LoraNodes {
  /** @param y the product, [rows, Σout]. @returns the name of y with what each row's adapter adds */
  add(site: LoraSite, y: string): string
}
