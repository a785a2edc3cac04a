/** What PEFT made of small random adapters (scripts/make-merge-fixtures.py), and the same adapters as we read them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AdapterDigest, BaseLayout, MajoritySign, MergeStrategy } from '@quiver/protocol'
import { readAdapter } from '../../packages/cache/src/format/inspect.ts'
import type { ValidAdapter } from '../../packages/cache/src/format/validate.ts'
import type { MergeRecipe } from '../../packages/cache/src/merge/merge-recipe.ts'
import { f32Tensor, jsonBytes, safetensors } from './adapter-files.ts'
import { digestFor } from './packed-adapters.ts'

interface Fixtures {
  readonly members: Readonly<Record<string, { config: Record<string, unknown>; tensors: Readonly<Record<string, PairValues>> }>>
  readonly cases: readonly MergeCase[]
}

interface PairValues {
  readonly a: readonly number[]
  readonly b: readonly number[]
}

export interface MergeCase {
  readonly strategy: MergeStrategy
  readonly names: readonly string[]
  readonly weights: readonly number[]
  readonly density: number
  readonly sign: MajoritySign
  readonly rank: number
  /** By module path: A as [rank, in] and B as [out, rank]. */
  readonly expected: Readonly<Record<string, PairValues>>
  /** By module path: A's mask of each member that has the module, then B's, as digits 0 and 1. */
  readonly masks: Readonly<Record<string, readonly string[]>>
}

const fixtures: Fixtures = JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures/merged-adapters.json'), 'utf8'))

export const mergeCases = fixtures.cases

export const mergeLayout: BaseLayout = {
  baseModel: 'tiny/merge',
  hiddenSize: 8,
  layerCount: 2,
  modules: [
    { name: 'q_proj', inFeatures: 8, outFeatures: 8 },
    { name: 'v_proj', inFeatures: 8, outFeatures: 4 },
    { name: 'down_proj', inFeatures: 12, outFeatures: 8 },
  ],
}

/** One of the fixture's adapters, read as any other. */
export async function mergeMember(name: string): Promise<ValidAdapter> {
  const member = fixtures.members[name]
  if (member === undefined) throw new Error(`no member ${name}`)
  const tensors = Object.entries(member.tensors).flatMap(([path, { a, b }]) => {
    const module = mergeLayout.modules.find((candidate) => path.endsWith(candidate.name))
    const [inputs, outputs] = [module?.inFeatures ?? 0, module?.outFeatures ?? 0]
    return [
      f32Tensor(`base_model.model.${path}.lora_A.weight`, [a.length / inputs, inputs], a),
      f32Tensor(`base_model.model.${path}.lora_B.weight`, [outputs, b.length / outputs], b),
    ]
  })
  return await readAdapter({ config: jsonBytes(member.config), weights: safetensors(tensors) }, mergeLayout, 8)
}

export function recipeOf({ names, weights, strategy, density, sign }: MergeCase): MergeRecipe {
  const members = names.map((name, at) => ({ name, digest: digestFor(name), weight: weights[at] ?? 0 }))
  return { members, strategy, density, sign }
}

export const someDigest: AdapterDigest = digestFor('merged')
