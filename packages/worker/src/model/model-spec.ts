import type { BaseLayout, Dtype } from '@quiver/protocol'

export const families = ['llama', 'mistral', 'qwen2', 'qwen3'] as const
export type Family = (typeof families)[number]

export type RopeScaling =
  | { readonly type: 'none' }
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      readonly originalMaxPositions: number
    }
  /** Every inverse frequency divided by its own factor: headDim / 2 numbers (`rope_freqs.weight` of a GGUF file). */
  | { readonly type: 'factors'; readonly factors: readonly number[] }

/** Everything about a base model that decides its graph. Sizes in elements. */
export interface ModelSpec {
  /** What users call it: a hub id, an alias, or the folder's name. */
  readonly id: string
  readonly family: Family
  readonly hiddenSize: number
  readonly layerCount: number
  readonly headCount: number
  readonly kvHeadCount: number
  readonly headDim: number
  readonly intermediateSize: number
  readonly vocabSize: number
  /** Longest context that the model was made for, in tokens. */
  readonly maxPositions: number
  readonly rmsNormEps: number
  readonly ropeTheta: number
  readonly ropeScaling: RopeScaling
  /** The output head is the embedding matrix. */
  readonly tiedEmbeddings: boolean
  /** q, k and v have a bias (Qwen2; Llama with attention_bias). */
  readonly qkvBias: boolean
  /** The attention's output projection has a bias (Llama with attention_bias). */
  readonly outputBias: boolean
  /** gate, up and down have a bias (Llama with mlp_bias). */
  readonly mlpBias: boolean
  /** q and k are RMS-normalised per head before the rotation (Qwen3). */
  readonly qkNorm: boolean
  /** A token attends to itself and the slidingWindow − 1 tokens before it; 0 means to all before it. */
  readonly slidingWindow: number
  readonly eosTokenIds: readonly number[]
}

/**
 * The model's weights under Hugging Face's names (`model.layers.0.self_attn.q_proj.weight`, [out, in] row-major), whatever
 * file they come from; q and k in the half-split rotary layout of transformers.
 */
export interface ModelWeights {
  has(name: string): boolean
  /** @returns a fresh float32 array. @throws ServingError `not_found` naming the tensor, `invalid_request` on a damaged file */
  read(name: string): Promise<Float32Array<ArrayBuffer>>
  close(): Promise<void>
}

/** The linear modules of `spec` that can carry an adapter. */
export function baseLayout(spec: ModelSpec): BaseLayout {
  const q = spec.headCount * spec.headDim
  const kv = spec.kvHeadCount * spec.headDim
  return {
    baseModel: spec.id,
    hiddenSize: spec.hiddenSize,
    layerCount: spec.layerCount,
    modules: [
      { name: 'q_proj', inFeatures: spec.hiddenSize, outFeatures: q },
      { name: 'k_proj', inFeatures: spec.hiddenSize, outFeatures: kv },
      { name: 'v_proj', inFeatures: spec.hiddenSize, outFeatures: kv },
      { name: 'o_proj', inFeatures: q, outFeatures: spec.hiddenSize },
      { name: 'gate_proj', inFeatures: spec.hiddenSize, outFeatures: spec.intermediateSize },
      { name: 'up_proj', inFeatures: spec.hiddenSize, outFeatures: spec.intermediateSize },
      { name: 'down_proj', inFeatures: spec.intermediateSize, outFeatures: spec.hiddenSize },
    ],
  }
}

export type { Dtype }
