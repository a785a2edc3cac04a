/**
 * What adapters add to a product, by standard operators: y += B(A x) with the scale folded into B.
 *
 * Rows that share an adapter are tiled (lora-tiles.ts): `tiles` × `width` rows, each tile with one adapter. A pool holds,
 * for one layer, the A rows (or Bᵀ rows) of all slots as one matrix whose row 0 is zero; a tile's weights are gathered
 * from it by row index, so the cost follows the adapters and ranks present, not slots × maximum rank:
 *
 *   x [rows, in] → gather lora_rows → [tiles, width, in]
 *   A: gather lora_index_<n> from pool → [tiles, n·rank, in]     n modules read the same x
 *   h = x Aᵀ [tiles, width, n·rank] → one h per module
 *   B: gather lora_index_1 → [tiles, rank, out];  d = h B [tiles, width, out], modules side by side
 *   flat [tiles·width, Σout] → gather lora_back → [rows, Σout]
 */
import type { PackedDtype } from '@quiver/cache'
import type { LoraNodes, LoraSite } from './lora-site.ts'
import { moduleGroups, poolA, poolB } from './module-groups.ts'
import type { OnnxModelBuilder } from './onnx-model.ts'
import { elementType } from './ort.ts'

/** Names of the index inputs, by how many modules' rows they gather. */
export const loraIndex = (modules: number): string => `lora_index_${modules}`
/** The distinct sizes of module groups. */
export const groupSizes: readonly number[] = [...new Set(moduleGroups.map((group) => group.modules.length))].sort()

export function standardNodes(model: OnnxModelBuilder, packedDtype: PackedDtype): LoraNodes {
  model.input('lora_rows', 'i32', ['tiles', 'width'])
  model.input('lora_back', 'i32', ['rows'])
  for (const size of groupSizes) model.input(loraIndex(size), 'i32', ['tiles', `rank_${size}`])
  return { add: (site, y) => model.node('Add', [y, delta(model, packedDtype, site)]) }
}

/** @returns the name of the delta, [rows, Σout]. */
function delta(model: OnnxModelBuilder, packedDtype: PackedDtype, site: LoraSite): string {
  const { layer, group, x, inFeatures, outFeatures } = site
  const moduleCount = group.modules.length
  const zero = zeroAfter(model, x)
  const indexes = new Map([1, moduleCount].map((size) => [size, model.node('Add', [loraIndex(size), zero])]))
  const gathered = (pool: string, size: number, features: number): string => {
    model.input(pool, packedDtype, [`pool_rows_${size}`, features])
    const rows = model.node('Gather', [pool, indexes.get(size) ?? ''])
    return packedDtype === 'f16' ? model.node('Cast', [rows], { to: elementType.f32 }) : rows
  }
  const tiled = model.node('Gather', [x, 'lora_rows'])
  const a = gathered(poolA(layer, group), moduleCount, inFeatures)
  const shrunk = model.node('FusedMatMul', [tiled, a], { transB: 1 }, 'com.microsoft')
  const parts = moduleCount === 1 ? [shrunk] : model.fresh(moduleCount, 'shrunk')
  if (parts.length > 1) model.nodeInto('Split', [shrunk], parts, { axis: 2, num_outputs: parts.length })
  const expanded = group.modules.map((module, i) => {
    const b = gathered(poolB(layer, module), 1, outFeatures[i] as number)
    return model.node('MatMul', [parts[i] as string, b])
  })
  const whole = expanded.length === 1 ? (expanded[0] as string) : model.node('Concat', expanded, { axis: 2 })
  const total = outFeatures.reduce((sum, features) => sum + features, 0)
  const flat = model.node('Reshape', [whole, model.constant([-1, total])])
  return model.node('Gather', [flat, 'lora_back'])
}

/**
 * A zero that is known only once `x` is. Without it the gathers depend on nothing but the step's inputs, and ONNX Runtime
 * runs those of all layers before the first product: every adapter of the batch lies in memory whole, and cold in the caches.
 */
function zeroAfter(model: OnnxModelBuilder, x: string): string {
  const rowCount = model.node('Shape', [x], { start: 0, end: 1 })
  return model.node('Cast', [model.node('Mul', [rowCount, model.constant([0])])], { to: elementType.i32 })
}
