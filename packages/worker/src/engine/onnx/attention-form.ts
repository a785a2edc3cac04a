import type { Dtype } from '@quiver/protocol'
import type { ModelSpec } from '../../model/model-spec.ts'
import type { Capacity, PrefixMemory } from '../engine.ts'
import { activationType } from './activation-type.ts'
import type { AttentionCache } from './attention-cache.ts'
import { type AttentionNodes, operatorAttention, type RotaryNames, standardAttention } from './attention-nodes.ts'
import { type CacheType, FlatCache } from './flat-cache.ts'
import { KvCache } from './kv-cache.ts'
import type { OnnxModelBuilder } from './onnx-model.ts'

/**
 * What attends: `GroupQueryAttention` on batches, which runs everywhere, or our own operator on flat rows (docs/adr/0024), where
 * its library is there. A graph is built for one of them, and the cache is laid out for it.
 */
export type AttentionForm = 'standard' | 'operator'

/** What our operator keeps keys and values in (docs/adr/0024): 16 bits unless the base itself is exact. */
export function cacheType(dtype: Dtype): CacheType {
  return dtype === 'fp32' ? 'f32' : 'f16'
}

/** Declares a form's inputs. */
export function attentionNodes(
  form: AttentionForm,
  model: OnnxModelBuilder,
  spec: ModelSpec,
  options: { readonly rotary: RotaryNames; readonly dtype: Dtype },
): AttentionNodes {
  const { rotary, dtype } = options
  if (form === 'operator') return operatorAttention(model, spec, rotary, cacheType(dtype))
  return standardAttention(model, spec, rotary, activationType(dtype))
}

export function attentionCache(
  form: AttentionForm,
  spec: ModelSpec,
  capacity: Capacity,
  dtype: Dtype,
): AttentionCache & PrefixMemory {
  return form === 'operator' ? new FlatCache(spec, { ...capacity, cacheType: cacheType(dtype) }) : new KvCache(spec, capacity)
}
