import { ServingError } from '@quiver/protocol'
import type { ModelSpec } from './model-spec.ts'

export interface ExpectedTensor {
  readonly name: string
  /** [out, in] of a matrix, [n] of a vector. */
  readonly shape: readonly number[]
}

/** A per-layer tensor: `model.layers.<layer>.<suffix>`. */
export function layerTensor(layer: number, suffix: string): string {
  return `model.layers.${layer}.${suffix}`
}

export const embeddingTensor = 'model.embed_tokens.weight'
export const finalNormTensor = 'model.norm.weight'
export const headTensor = 'lm_head.weight'

/** All tensors that a model of this shape has, no more and no fewer, in Hugging Face's names. */
export function expectedTensors(spec: ModelSpec): ExpectedTensor[] {
  const tensors: ExpectedTensor[] = [{ name: embeddingTensor, shape: [spec.vocabSize, spec.hiddenSize] }]
  for (let layer = 0; layer < spec.layerCount; layer++) {
    for (const { name, shape } of expectedLayerTensors(spec)) tensors.push({ name: layerTensor(layer, name), shape })
  }
  tensors.push({ name: finalNormTensor, shape: [spec.hiddenSize] })
  if (!spec.tiedEmbeddings) tensors.push({ name: headTensor, shape: [spec.vocabSize, spec.hiddenSize] })
  return tensors
}

function expectedLayerTensors(spec: ModelSpec): ExpectedTensor[] {
  const { hiddenSize: hidden, intermediateSize: inner, headDim } = spec
  const q = spec.headCount * headDim
  const kv = spec.kvHeadCount * headDim
  const linear = (name: string, rows: number, columns: number, bias: boolean): ExpectedTensor[] => {
    const weight = { name: `${name}.weight`, shape: [rows, columns] }
    return bias ? [weight, { name: `${name}.bias`, shape: [rows] }] : [weight]
  }
  const norm = (name: string, size: number): ExpectedTensor => ({ name: `${name}.weight`, shape: [size] })
  return [
    norm('input_layernorm', hidden),
    ...linear('self_attn.q_proj', q, hidden, spec.qkvBias),
    ...linear('self_attn.k_proj', kv, hidden, spec.qkvBias),
    ...linear('self_attn.v_proj', kv, hidden, spec.qkvBias),
    ...(spec.qkNorm ? [norm('self_attn.q_norm', headDim), norm('self_attn.k_norm', headDim)] : []),
    ...linear('self_attn.o_proj', hidden, q, spec.outputBias),
    norm('post_attention_layernorm', hidden),
    ...linear('mlp.gate_proj', inner, hidden, spec.mlpBias),
    ...linear('mlp.up_proj', inner, hidden, spec.mlpBias),
    ...linear('mlp.down_proj', hidden, inner, spec.mlpBias),
  ]
}

/**
 * Refuses a file that lacks a tensor, has one of another shape, or has one that the model would not use: weights that are
 * left out silently give silently wrong text.
 * @param present name → shape of every tensor in the files
 * @param unused tensors that may be there although nothing reads them
 * @throws ServingError `invalid_request` naming the first tensor at fault
 */
export function checkTensors(
  spec: ModelSpec,
  present: ReadonlyMap<string, readonly number[]>,
  options: { readonly source: string; readonly unused: (name: string) => boolean },
): void {
  const { source, unused } = options
  const expected = expectedTensors(spec)
  for (const { name, shape } of expected) {
    const found = present.get(name)
    if (found === undefined) throw new ServingError('invalid_request', `${source}: tensor ${name} is missing`)
    if (found.length !== shape.length || found.some((size, index) => size !== shape[index])) {
      throw new ServingError(
        'invalid_request',
        `${source}: tensor ${name} has shape [${found.join(', ')}], but the model's configuration asks for [${shape.join(', ')}]`,
      )
    }
  }
  const names = new Set(expected.map(({ name }) => name))
  for (const name of present.keys()) {
    if (!names.has(name) && !unused(name)) {
      throw new ServingError('invalid_request', `${source}: tensor ${name} belongs to no part of a ${spec.family} model`)
    }
  }
}
