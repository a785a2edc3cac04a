import type { ModuleName } from '@quiver/protocol'

/** Linear modules that read the same input: their base products are one, and their A matrices are gathered together. */
export const moduleGroups = [
  { name: 'qkv', modules: ['q_proj', 'k_proj', 'v_proj'] },
  { name: 'o', modules: ['o_proj'] },
  { name: 'gate_up', modules: ['gate_proj', 'up_proj'] },
  { name: 'down', modules: ['down_proj'] },
] as const satisfies readonly { name: string; modules: readonly ModuleName[] }[]

export type ModuleGroup = (typeof moduleGroups)[number]

/** Names of graph inputs: the pool of a group's A rows, and of one module's Bᵀ rows. */
export const poolA = (layer: number, group: ModuleGroup): string => `lora_a.${layer}.${group.name}`
export const poolB = (layer: number, module: ModuleName): string => `lora_b.${layer}.${module}`
