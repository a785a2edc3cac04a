/**
 * Attention between the products of q, k, v and o: rotary positions, the cache in place, softmax.
 *
 *   standard  GroupQueryAttention on [batch, length]: sequences with equally many rows each, in neighbouring rows of the cache
 *   operator  quiver::Attention on flat rows of any sequences (kernels/operator/attention_op.h)
 */
import type { ModelSpec } from '../../model/model-spec.ts'
import type { ActivationType } from './activation-type.ts'
import { type CacheType, KEY_GROUP } from './flat-cache.ts'
import type { OnnxModelBuilder } from './onnx-model.ts'

/** Names of the weights that a model normalises q and k with per head (Qwen3). */
export interface HeadNorms {
  readonly q: string
  readonly k: string
}

/** Names of the tables of cosines and sines, [positions, headDim/2]. */
export interface RotaryNames {
  readonly cos: string
  readonly sin: string
}

export interface AttentionNodes {
  /** @param qkv [rows, (heads + 2 · kvHeads) · headDim]. @returns the name of what is attended to, [rows, heads · headDim] */
  add(layer: number, qkv: string, norms: HeadNorms | undefined): string
}

const MICROSOFT = 'com.microsoft'

/**
 * Inputs: attention_shape [3] i64 = (batch, length, −1) · seqlens_k [batch] i32, keys of each sequence minus one ·
 * total_length [] i32, the most keys of any · key.<l>, value.<l> [batch, kvHeads, capacity, headDim].
 * Outputs: new_key.<l>, new_value.<l> (the same memory).
 */
export function standardAttention(
  model: OnnxModelBuilder,
  spec: ModelSpec,
  rotary: RotaryNames,
  type: ActivationType,
): AttentionNodes {
  const { headCount, kvHeadCount, headDim, slidingWindow } = spec
  model.input('attention_shape', 'i64', [3])
  model.input('seqlens_k', 'i32', ['batch'])
  model.input('total_length', 'i32', [])
  const shape = ['batch', kvHeadCount, 'capacity', headDim]
  return {
    add(layer, qkv, norms) {
      const cache = ['key', 'value'].map((kind) => model.input(`${kind}.${layer}`, type, shape))
      const inputs = norms ? normedHeads(model, spec, qkv, norms) : [model.node('Reshape', [qkv, 'attention_shape']), '', '']
      const attended = model.fresh(1, 'attention')[0] as string
      const outputs = ['key', 'value'].map((kind) => `new_${kind}.${layer}`)
      model.nodeInto(
        'GroupQueryAttention',
        [...inputs, ...cache, 'seqlens_k', 'total_length', rotary.cos, rotary.sin],
        [attended, ...outputs],
        {
          num_heads: headCount,
          kv_num_heads: kvHeadCount,
          do_rotary: 1,
          ...(slidingWindow > 0 ? { local_window_size: slidingWindow } : {}),
        },
        MICROSOFT,
      )
      for (const output of outputs) model.output(output, type, shape)
      return model.node('Reshape', [attended, model.constant([-1, headCount * headDim])])
    },
  }
}

/** Splits packed q, k, v and RMS-normalises q and k per head. */
function normedHeads(model: OnnxModelBuilder, spec: ModelSpec, qkv: string, norms: HeadNorms): string[] {
  const { headCount, kvHeadCount, headDim, rmsNormEps } = spec
  const parts = model.fresh(3, 'qkv')
  const sizes = [headCount, kvHeadCount, kvHeadCount].map((heads) => heads * headDim)
  model.nodeInto('Split', [qkv, model.constant(sizes)], parts, { axis: 1 })
  const shaped = [norms.q, norms.k].map((weight, i) => {
    const heads = model.node('Reshape', [parts[i] as string, model.constant([-1, headDim])])
    const normed = model.node('SimplifiedLayerNormalization', [heads, weight], { axis: -1, epsilon: { float: rmsNormEps } })
    return model.node('Reshape', [normed, model.constant([-1, sizes[i] as number])])
  })
  return [...shaped, parts[2] as string].map((part) => model.node('Reshape', [part, 'attention_shape']))
}

/**
 * Inputs: cache_row [rows] i32, where each row's sequence lies · position [rows] i32 · key.<l> [sequences, kvHeads, groups,
 * headDim, 16], value.<l> [sequences, kvHeads, capacity, headDim], written.
 */
export function operatorAttention(
  model: OnnxModelBuilder,
  spec: ModelSpec,
  rotary: RotaryNames,
  cacheType: CacheType,
): AttentionNodes {
  const { headCount, kvHeadCount, headDim, slidingWindow, rmsNormEps } = spec
  model.input('cache_row', 'i32', ['rows'])
  model.input('position', 'i32', ['rows'])
  const attributes = {
    heads: headCount,
    kv_heads: kvHeadCount,
    window: Math.max(0, slidingWindow),
    epsilon: { float: rmsNormEps },
  }
  return {
    add(layer, qkv, norms) {
      const keys = model.input(`key.${layer}`, cacheType, ['sequences', kvHeadCount, 'groups', headDim, KEY_GROUP])
      const values = model.input(`value.${layer}`, cacheType, ['sequences', kvHeadCount, 'capacity', headDim])
      const inputs = [qkv, keys, values, 'cache_row', 'position', rotary.cos, rotary.sin, ...(norms ? [norms.q, norms.k] : [])]
      const attended = model.node('Attention', inputs, attributes, 'quiver')
      // Operators that are not ONNX's own leave it unknown, and what follows plans by it.
      model.shape(attended, 'f32', ['rows', headCount * headDim])
      return attended
    },
  }
}
