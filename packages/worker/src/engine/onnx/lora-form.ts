import type { PackedDtype } from '@quiver/cache'
import type { BaseLayout } from '@quiver/protocol'
import type { ActivationType } from './activation-type.ts'
import type { AdapterPools } from './adapter-pools.ts'
import { standardNodes } from './lora-nodes.ts'
import type { LoraNodes } from './lora-site.ts'
import type { OnnxModelBuilder } from './onnx-model.ts'
import { operatorNodes } from './operator-nodes.ts'
import { OperatorPools } from './operator-pools.ts'
import type { PoolOptions } from './pool-memory.ts'
import { StandardPools } from './standard-pools.ts'

/**
 * How adapters are applied: by standard operators on tiles (docs/adr/0002), which runs everywhere, or by our own operator
 * (docs/adr/0013), where its library is there. A graph is built for one of them, and the pools are laid out for it.
 */
export type LoraForm = 'standard' | 'operator'

/** Declares a form's inputs. */
export function loraNodes(
  form: LoraForm,
  model: OnnxModelBuilder,
  packedDtype: PackedDtype,
  activation: ActivationType,
): LoraNodes {
  return form === 'operator' ? operatorNodes(model, packedDtype, activation) : standardNodes(model, packedDtype)
}

export function adapterPools(form: LoraForm, layout: BaseLayout, options: PoolOptions): AdapterPools {
  return form === 'operator' ? new OperatorPools(layout, options) : new StandardPools(layout, options)
}
