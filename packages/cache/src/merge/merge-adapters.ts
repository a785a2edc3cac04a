/**
 * Merges adapters as PEFT's `add_weighted_adapter` does (peft 0.21, tuners/lora/model.py): for each module A and B are merged
 * apart from each other, after each member i was given the weights
 *
 *   A: sign(wᵢsᵢ) · √|wᵢsᵢ|    B: √|wᵢsᵢ|        wᵢ as requested, sᵢ the member's own scale for that module
 *
 * so that a member alone comes out as wᵢ times its effect. The merged adapter has the scale 1. A module that only some members
 * have is merged from those; the merged adapter has the modules of all.
 *
 * Ranks may differ, which PEFT and LoRAX refuse: the result has the largest rank, and smaller pairs count as padded with zero
 * rows of A and zero columns of B. Padding leaves B·A as it is. It comes after pruning, so that the density is a share of
 * the values a member really has, and a zero neither adds to a sum nor votes for a sign.
 */
import type { BaseLayout, LinearModule } from '@quiver/protocol'
import { adapterInvalid, quoted } from '../format/adapter-problem.ts'
import { F16_MAX, f32Exponent, firstNotFinite, writeF16 } from '../format/half.ts'
import { modulePath } from '../format/module-match.ts'
import type { PackedFile, PackTarget } from '../format/pack.ts'
import type { PackedArray } from '../format/packed-adapter.ts'
import { draftPacked } from '../format/packed-file.ts'
import type { AdapterPair, ValidAdapter } from '../format/validate.ts'
import { combine, type WeightedTensor } from './combine.ts'
import { type DareMask, dareMask, type TensorPlace } from './dare-mask.ts'
import { memberTensor } from './member-tensor.ts'
import { type MergeMember, type MergeMethod, type MergeRecipe, methodOf } from './merge-recipe.ts'
import { dropAtRandom, keepLargest } from './prune.ts'
import { Slices } from './slices.ts'

/** One module with the pairs of those members that have it. */
interface MergedModule {
  readonly layer: number
  readonly module: LinearModule
  readonly rank: number
  readonly parts: readonly Part[]
}

interface Part {
  readonly pair: AdapterPair
  readonly member: MergeMember
  /** Position of the member in the request. */
  readonly at: number
}

export interface MergeRun {
  readonly recipe: MergeRecipe
  /** The members' adapters, in the recipe's order. */
  readonly adapters: readonly ValidAdapter[]
  readonly target: PackTarget
  readonly signal: AbortSignal
  /** Of the target's digest unless a test says otherwise. */
  readonly mask?: DareMask
}

/**
 * The merged adapter, packed. Takes turns with the event loop.
 * @throws ServingError `adapter_invalid` when the density keeps nothing of a tensor, or when a value is beyond what can be held
 */
export async function mergeAdapters(run: MergeRun): Promise<PackedFile> {
  const { recipe, adapters, target, signal } = run
  const method = methodOf(recipe)
  const modules = modulesOf(recipe, adapters, target.layout)
  const draft = draftPacked(target, modules)
  const step = { method, mask: run.mask ?? dareMask(target.digest, method.density), slices: new Slices(signal) }
  for (const [index, module] of modules.entries()) {
    const packed = draft.adapter.modules[index]
    if (packed === undefined) throw new Error('a packed module for every module')
    await mergeSide(module, 'A', packed.a, step)
    await mergeSide(module, 'B', packed.b, step)
  }
  await draft.seal()
  return { file: draft.file, adapter: draft.adapter }
}

/** By layer, then in the layout's order of modules, as in every packed adapter. */
function modulesOf({ members }: MergeRecipe, adapters: readonly ValidAdapter[], layout: BaseLayout): readonly MergedModule[] {
  const partsOf = new Map<string, Part[]>()
  for (const [at, member] of members.entries()) {
    for (const pair of adapters[at]?.pairs ?? []) {
      const path = modulePath(pair.layer, pair.module)
      const parts = partsOf.get(path) ?? []
      partsOf.set(path, parts)
      parts.push({ pair, member, at })
    }
  }
  const modules: MergedModule[] = []
  for (let layer = 0; layer < layout.layerCount; layer++) {
    for (const module of layout.modules) {
      const parts = partsOf.get(modulePath(layer, module))
      if (parts !== undefined) modules.push({ layer, module, parts, rank: Math.max(...parts.map(({ pair }) => pair.rank)) })
    }
  }
  return modules
}

interface Step {
  readonly method: MergeMethod
  readonly mask: DareMask
  readonly slices: Slices
}

async function mergeSide(module: MergedModule, side: 'A' | 'B', target: PackedArray, step: Step): Promise<void> {
  const tensors: WeightedTensor[] = []
  for (const part of module.parts) {
    const values = await memberTensor(part.pair, side, step.slices)
    await prune(values, part, { layer: module.layer, module: module.module.name, side, member: part.at }, step)
    tensors.push({ values, weight: sideWeight(part, side) })
  }
  await step.slices.over(target.length, tensors.length, (from, to) => {
    const merged = target instanceof Float32Array ? target.subarray(from, to) : new Float32Array(to - from)
    combine(tensors, step.method.sign, merged, { from, to })
    const index =
      target instanceof Uint16Array
        ? writeF16(merged, target.subarray(from, to))
        : firstNotFinite(new Uint32Array(merged.buffer, merged.byteOffset, merged.length), f32Exponent)
    if (index >= 0) throw tooLarge(module, side, target instanceof Uint16Array ? F16_MAX : 3.4e38)
  })
}

/** √|w·s| on both sides, the sign of w·s on A alone: on both it would cancel out. Rounded to float32, as PEFT has it. */
function sideWeight({ pair, member }: Part, side: 'A' | 'B'): number {
  const weight = member.weight * pair.scale
  const root = Math.fround(Math.sqrt(Math.abs(weight)))
  return side === 'A' && weight < 0 ? -root : root
}

async function prune(
  values: Float32Array<ArrayBuffer>,
  { member, pair }: Part,
  place: TensorPlace,
  { method: { pruning, density }, mask, slices }: Step,
): Promise<void> {
  switch (pruning) {
    case 'none':
      return
    case 'random':
      return await dropAtRandom(values, density, mask(place), slices)
    case 'smallest': {
      const kept = await keepLargest(values, density, slices)
      if (kept > 0) return
      throw adapterInvalid(
        `density ${density} keeps none of the ${values.length} values of lora_${place.side} of ` +
          `${modulePath(pair.layer, pair.module)} in adapter ${quoted(member.name)}: use at least ${1 / values.length}`,
      )
    }
  }
}

function tooLarge({ layer, module }: MergedModule, side: 'A' | 'B', largest: number) {
  return adapterInvalid(
    `lora_${side} of ${modulePath(layer, module)} of the merged adapter holds a value beyond ±${largest}, the largest that ` +
      'can be served: use smaller weights',
  )
}
