/**
 * `config.json` (and `generation_config.json`) of a Hugging Face folder → ModelSpec. Defaults are those of the configuration
 * classes of transformers 5.23, because a file leaves out what equals them. Whatever would change the computation and is not
 * implemented is refused by its field.
 */
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type HfConfig, hfConfigSchema, type RopeParameters } from './hf-config-schema.ts'
import type { Family, ModelSpec, RopeScaling } from './model-spec.ts'

const architectures: Readonly<Record<string, Family>> = {
  LlamaForCausalLM: 'llama',
  MistralForCausalLM: 'mistral',
  Qwen2ForCausalLM: 'qwen2',
  Qwen3ForCausalLM: 'qwen3',
}

const defaultMaxPositions: Readonly<Record<Family, number>> = { llama: 2048, mistral: 131_072, qwen2: 32_768, qwen3: 32_768 }

/** Where the field is absent; a null stands for as many as there are heads. */
const defaultKvHeads: Readonly<Record<Family, number | null>> = { llama: null, mistral: 8, qwen2: 32, qwen3: 32 }

/** What transformers takes where the file gives neither eos_token_id nor a generation_config.json. */
const defaultEos: Readonly<Record<Family, readonly number[]>> = { llama: [2], mistral: [2], qwen2: [], qwen3: [] }

export interface HfConfigSource {
  /** What users call the model. */
  readonly id: string
  /** Where the file is, for messages. */
  readonly path: string
  /** Parsed `config.json`. */
  readonly config: unknown
  /** Parsed `generation_config.json`; undefined where there is none. */
  readonly generationConfig?: unknown
}

/**
 * @throws ServingError `invalid_request` naming the field that is missing, wrong or not supported
 * @example readHfConfig({ id: 'org/model', path: '/models/m/config.json', config: JSON.parse(text) }).hiddenSize
 */
export function readHfConfig(source: HfConfigSource): ModelSpec {
  const refuse = (what: string): never => {
    throw new ServingError('invalid_request', `${source.path}: ${what}`)
  }
  // The architecture first: another one's fields would only give a misleading message.
  const family = readFamily(source.config, refuse)
  const config = parse(hfConfigSchema, source.config, refuse)
  checkUnsupported(config, refuse)

  const headDim = config.head_dim ?? (family === 'qwen3' ? 128 : config.hidden_size / config.num_attention_heads)
  const kvHeadCount =
    (config.num_key_value_heads === undefined ? defaultKvHeads[family] : config.num_key_value_heads) ?? config.num_attention_heads
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) refuse(`the head size ${headDim} is not an even number`)
  if (config.num_attention_heads % kvHeadCount !== 0) {
    refuse(`num_attention_heads ${config.num_attention_heads} is not a multiple of num_key_value_heads ${kvHeadCount}`)
  }
  const attentionBias = (family === 'llama' || family === 'qwen3') && (config.attention_bias ?? false)
  const rope = { ...config.rope_scaling, ...config.rope_parameters }
  return {
    id: source.id,
    family,
    hiddenSize: config.hidden_size,
    layerCount: config.num_hidden_layers,
    headCount: config.num_attention_heads,
    kvHeadCount,
    headDim,
    intermediateSize: config.intermediate_size,
    vocabSize: config.vocab_size,
    maxPositions: config.max_position_embeddings ?? defaultMaxPositions[family],
    rmsNormEps: config.rms_norm_eps ?? 1e-6,
    ropeTheta: rope.rope_theta ?? config.rope_theta ?? 10_000,
    ropeScaling: readRopeScaling(rope, config, refuse),
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    qkvBias: family === 'qwen2' || attentionBias,
    outputBias: attentionBias,
    mlpBias: family === 'llama' && (config.mlp_bias ?? false),
    qkNorm: family === 'qwen3',
    slidingWindow: readSlidingWindow(family, config, refuse),
    eosTokenIds: readEosTokenIds(config, source, family, refuse),
  }
}

type Refuse = (what: string) => never

function parse<T>(schema: z.ZodType<T>, value: unknown, refuse: Refuse): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  return refuse(`${issue?.path.join('.') || 'the file'}: ${issue?.message ?? 'not readable'}`)
}

function readFamily(config: unknown, refuse: Refuse): Family {
  const parsed = parse(z.object({ architectures: z.array(z.string()).optional() }), config, refuse)
  const name = parsed.architectures?.[0]
  const family = name !== undefined && Object.hasOwn(architectures, name) ? architectures[name] : undefined
  if (family !== undefined) return family
  const supported = Object.keys(architectures).join(', ')
  return refuse(
    name === undefined
      ? `architectures is missing; supported: ${supported}`
      : `architecture ${name} is not supported; supported: ${supported}`,
  )
}

function checkUnsupported(config: HfConfig, refuse: Refuse): void {
  const activation = config.hidden_act ?? 'silu'
  if (activation !== 'silu') refuse(`hidden_act ${activation} is not supported; supported: silu`)
  if (config.quantization_config !== undefined && config.quantization_config !== null) {
    const method = config.quantization_config.quant_method ?? 'of an unknown method'
    refuse(`quantization_config ${method} is not supported; take the unquantised model or a GGUF file`)
  }
  const partial = config.rope_parameters?.partial_rotary_factor ?? config.partial_rotary_factor ?? 1
  if (partial !== 1) refuse(`partial_rotary_factor ${partial} is not supported (only 1 is)`)
}

function readRopeScaling(rope: RopeParameters, config: HfConfig, refuse: Refuse): RopeScaling {
  const type = rope.rope_type ?? rope.type ?? 'default'
  const number = (field: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number => {
    const value = rope[field] ?? refuse(`rope scaling ${type} needs ${field}`)
    return value > 0 ? value : refuse(`rope scaling ${field} ${value} must be above 0`)
  }
  switch (type) {
    case 'default':
      return { type: 'none' }
    case 'linear':
      return { type: 'linear', factor: number('factor') }
    case 'llama3': {
      const lowFreqFactor = number('low_freq_factor')
      const highFreqFactor = number('high_freq_factor')
      if (highFreqFactor <= lowFreqFactor)
        refuse(`rope scaling high_freq_factor ${highFreqFactor} must exceed low_freq_factor ${lowFreqFactor}`)
      const originalMaxPositions =
        rope.original_max_position_embeddings ??
        config.original_max_position_embeddings ??
        refuse('rope scaling llama3 needs original_max_position_embeddings')
      return { type: 'llama3', factor: number('factor'), lowFreqFactor, highFreqFactor, originalMaxPositions }
    }
    default:
      return refuse(`rope scaling ${type} is not supported; supported: default, linear, llama3`)
  }
}

/** All layers slide or none does: a mixture is refused, since the graph has one window. */
function readSlidingWindow(family: Family, config: HfConfig, refuse: Refuse): number {
  if (family === 'llama') return 0
  if (family === 'mistral') return config.sliding_window === undefined ? 4096 : (config.sliding_window ?? 0)
  const window =
    config.use_sliding_window === true ? (config.sliding_window === undefined ? 4096 : (config.sliding_window ?? 0)) : 0
  const layers = config.num_hidden_layers
  const types =
    config.layer_types ??
    Array.from({ length: layers }, (_, layer) =>
      window > 0 && layer >= (config.max_window_layers ?? 28) ? 'sliding_attention' : 'full_attention',
    )
  if (types.length !== layers) refuse(`layer_types names ${types.length} layers, but num_hidden_layers is ${layers}`)
  const unknown = types.find((type) => type !== 'sliding_attention' && type !== 'full_attention')
  if (unknown !== undefined) refuse(`layer_types ${unknown} is not supported; supported: full_attention, sliding_attention`)
  const sliding = types.filter((type) => type === 'sliding_attention').length
  if (sliding === 0) return 0
  if (sliding < layers) refuse(`sliding_window in ${sliding} of ${layers} layers is not supported: all layers must slide or none`)
  return window > 0 ? window : refuse('layer_types has sliding_attention, but no sliding_window is in use')
}

/** The generation's list stands above the model's, as in transformers' `generate`. */
function readEosTokenIds(config: HfConfig, source: HfConfigSource, family: Family, refuse: Refuse): readonly number[] {
  const generation = parse(generationConfigSchema, source.generationConfig ?? {}, refuse)
  const ids = generation.eos_token_id ?? (config.eos_token_id === undefined ? defaultEos[family] : (config.eos_token_id ?? []))
  return [...new Set(typeof ids === 'number' ? [ids] : ids)]
}

const generationConfigSchema = hfConfigSchema.pick({ eos_token_id: true })
