import { describe, expect, it } from 'vitest'
import { readHfConfig } from '../../../packages/worker/src/model/hf-config.ts'
import type { ModelSpec } from '../../../packages/worker/src/model/model-spec.ts'

const base = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 100,
  eos_token_id: 7,
}
const mistral = { ...base, architectures: ['MistralForCausalLM'] }
const qwen2 = { ...base, architectures: ['Qwen2ForCausalLM'] }
const qwen3 = { ...base, architectures: ['Qwen3ForCausalLM'] }
const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }

function read(config: object, generationConfig?: unknown): ModelSpec {
  return readHfConfig({ id: 'm', path: 'config.json', config, generationConfig })
}

describe('what a configuration says', () => {
  const cases: readonly (readonly [string, object, Partial<ModelSpec>])[] = [
    [
      'llama, defaults',
      base,
      {
        family: 'llama',
        headDim: 16,
        maxPositions: 2048,
        rmsNormEps: 1e-6,
        ropeTheta: 10_000,
        tiedEmbeddings: false,
        qkvBias: false,
        outputBias: false,
        mlpBias: false,
        qkNorm: false,
        slidingWindow: 0,
      },
    ],
    ['as many key-value heads as heads where none are named', { ...base, num_key_value_heads: null }, { kvHeadCount: 4 }],
    ['llama with biases', { ...base, attention_bias: true, mlp_bias: true }, { qkvBias: true, outputBias: true, mlpBias: true }],
    ['its own head size', { ...base, head_dim: 32 }, { headDim: 32 }],
    ['rope_theta in its old place', { ...base, rope_theta: 5e5 }, { ropeTheta: 5e5 }],
    [
      'rope_theta in its new place',
      { ...base, rope_parameters: { rope_type: 'default', rope_theta: 1e6 } },
      { ropeTheta: 1e6, ropeScaling: { type: 'none' } },
    ],
    [
      'linear scaling in the oldest form',
      { ...base, rope_scaling: { type: 'linear', factor: 4 } },
      { ropeScaling: { type: 'linear', factor: 4 } },
    ],
    [
      'llama-3 scaling in the old place',
      { ...base, rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } },
      {
        ropeTheta: 5e5,
        ropeScaling: { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 },
      },
    ],
    [
      'llama-3 scaling in the new place',
      { ...base, rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } },
      {
        ropeTheta: 5e5,
        ropeScaling: { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 },
      },
    ],
    ['mistral slides by default', mistral, { family: 'mistral', slidingWindow: 4096, maxPositions: 131_072 }],
    ['mistral without a window', { ...mistral, sliding_window: null }, { slidingWindow: 0 }],
    ['mistral with its own window', { ...mistral, sliding_window: 128 }, { slidingWindow: 128 }],
    [
      'qwen2 has biases and does not slide unless asked to',
      { ...qwen2, sliding_window: 128, max_window_layers: 0 },
      { qkvBias: true, outputBias: false, slidingWindow: 0 },
    ],
    [
      'qwen2 that slides everywhere',
      { ...qwen2, use_sliding_window: true, sliding_window: 128, max_window_layers: 0 },
      { slidingWindow: 128 },
    ],
    [
      'qwen2 that slides nowhere yet',
      { ...qwen2, use_sliding_window: true, sliding_window: 128, max_window_layers: 2 },
      { slidingWindow: 0 },
    ],
    [
      'layers named one by one',
      { ...qwen3, use_sliding_window: true, sliding_window: 8, layer_types: ['sliding_attention', 'sliding_attention'] },
      { slidingWindow: 8 },
    ],
    ['qwen3 norms q and k and has heads of 128', qwen3, { qkNorm: true, headDim: 128, qkvBias: false }],
    [
      'fields that no family reads are passed over',
      { ...base, dtype: 'bfloat16', use_cache: true, mlp_gate: 3 },
      { family: 'llama' },
    ],
  ]
  it.each(cases)('%s', (_what, config, expected) => {
    expect(read(config)).toMatchObject(expected)
  })

  it('ends at the ids of generation_config.json, else at those of config.json', () => {
    expect(read(base).eosTokenIds).toEqual([7])
    expect(read({ ...base, eos_token_id: [7, 8, 7] }).eosTokenIds).toEqual([7, 8])
    expect(read(base, { eos_token_id: [1, 2] }).eosTokenIds).toEqual([1, 2])
    expect(read(base, { eos_token_id: 3 }).eosTokenIds).toEqual([3])
    expect(read(base, { temperature: 1 }).eosTokenIds).toEqual([7])
  })
})

describe('what is not supported is refused by name', () => {
  const scaled = (type: string) => ({ ...base, rope_scaling: { rope_type: type, factor: 2 } })
  const cases: readonly (readonly [string, unknown, RegExp])[] = [
    [
      'another architecture',
      { ...base, architectures: ['GemmaForCausalLM'] },
      /architecture GemmaForCausalLM is not supported; supported: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM/,
    ],
    ['an inherited name', { ...base, architectures: ['constructor'] }, /architecture constructor is not supported/],
    ['no architecture', { hidden_size: 3 }, /architectures is missing; supported: Llama/],
    ['no object', 'text', /config\.json: the file/],
    ['yarn', scaled('yarn'), /rope scaling yarn is not supported; supported: default, linear, llama3/],
    ['dynamic', scaled('dynamic'), /rope scaling dynamic is not supported/],
    ['longrope', scaled('longrope'), /rope scaling longrope is not supported/],
    ['half of llama-3 scaling', scaled('llama3'), /rope scaling llama3 needs low_freq_factor/],
    ['a linear factor of 0', { ...base, rope_scaling: { type: 'linear', factor: 0 } }, /rope scaling factor 0 must be above 0/],
    ['partial rotation', { ...base, partial_rotary_factor: 0.5 }, /partial_rotary_factor 0\.5 is not supported/],
    ['another activation', { ...base, hidden_act: 'gelu' }, /hidden_act gelu is not supported; supported: silu/],
    [
      'quantised weights',
      { ...base, quantization_config: { quant_method: 'gptq' } },
      /quantization_config gptq is not supported/,
    ],
    [
      'a window in some layers',
      { ...qwen2, use_sliding_window: true, sliding_window: 8, max_window_layers: 1 },
      /sliding_window in 1 of 2 layers is not supported/,
    ],
    [
      'another kind of layer',
      { ...qwen3, layer_types: ['full_attention', 'chunked_attention'] },
      /layer_types chunked_attention is not supported/,
    ],
    [
      'sliding layers without a window',
      { ...qwen3, layer_types: ['sliding_attention', 'sliding_attention'] },
      /no sliding_window is in use/,
    ],
    ['a missing size', { ...base, hidden_size: undefined }, /config\.json: hidden_size/],
    ['a size that is text', { ...base, num_hidden_layers: '2' }, /config\.json: num_hidden_layers/],
    ['an odd head size', { ...base, head_dim: 15 }, /head size 15 is not an even number/],
    [
      'heads that cannot be grouped',
      { ...base, num_key_value_heads: 3 },
      /num_attention_heads 4 is not a multiple of num_key_value_heads 3/,
    ],
  ]
  it.each(cases)('%s', (_what, config, message) => {
    expect(() => readHfConfig({ id: 'm', path: 'config.json', config })).toThrow(message)
  })
})
