/**
 * What adapters add to a product, by one node of our own operator (kernels/operator/lora_op.h):
 *
 *   y [rows, Σout] → quiver::Lora(y, x, lora_slot, lora_rank, lora_scale, A and B of each module) → y, in place
 *
 * The modules of a group are one node, whose outputs stand side by side in y as the product of the group puts them.
 */
import type { PackedDtype } from '@quiver/cache'
import type { ActivationType } from './activation-type.ts'
import type { LoraNodes, LoraSite } from './lora-site.ts'
import type { OnnxModelBuilder } from './onnx-model.ts'
import { operatorPoolA, operatorPoolB, rankSite } from './operator-pools.ts'

export function operatorNodes(model: OnnxModelBuilder, packedDtype: PackedDtype, activation: ActivationType): LoraNodes {
  model.input('lora_slot', 'i32', ['rows'])
  model.input('lora_rank', 'i32', ['sites', 'slots'])
  model.input('lora_scale', 'f32', ['slots'])
  return {
    add({ layer, group, x, inFeatures, outFeatures }: LoraSite, y: string): string {
      const pools = group.modules.flatMap((module, i) => [
        model.input(operatorPoolA(layer, module), packedDtype, ['slots', 'max_rank', inFeatures]),
        model.input(operatorPoolB(layer, module), packedDtype, ['slots', 'max_rank', outFeatures[i] as number]),
      ])
      // Without it the runtime does not know that the node's output is as large as y, and copies y instead of adding in place.
      const columns = outFeatures.reduce((sum, features) => sum + features, 0)
      model.shape(y, activation, ['rows', columns])
      const site = rankSite(layer, group.modules[0])
      return model.node('Lora', [y, x, 'lora_slot', 'lora_rank', 'lora_scale', ...pools], { site }, 'quiver')
    },
  }
}
