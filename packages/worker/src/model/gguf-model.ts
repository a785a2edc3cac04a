/**
 * A GGUF file as a model: metadata → ModelSpec, tensors → ModelWeights, `tokenizer.*` → TokenizerFiles. Key names are those of
 * the `gguf` Python package; whatever would change the computation and is not implemented is refused by its key.
 *
 * Rope scaling: llama.cpp's converter does not write Llama 3's four numbers. It writes `rope_freqs.weight`, by whose values
 * the inverse frequencies are divided, and keys under `rope.scaling` for linear and YaRN scaling only. The four numbers cannot be
 * had back from it without guessing, so the factors themselves become the spec's scaling of type `factors`.
 */
import { open } from 'node:fs/promises'
import { ServingError } from '@quiver/protocol'
import type { TokenizerFiles } from '../tokenizer/tokenizer-files.ts'
import type { GgufMetadata } from './gguf-metadata.ts'
import { type GgufHeader, type GgufTensor, readGgufHeader } from './gguf-reader.ts'
import { ggufTokenizerFiles } from './gguf-tokenizer.ts'
import { checkTensorTypes, GgufWeights, huggingFaceName, readGgufTensor } from './gguf-weights.ts'
import type { Family, ModelSpec, ModelWeights, RopeScaling } from './model-spec.ts'
import { checkTensors } from './tensor-names.ts'

/** `pairedRows`: q and k are stored for llama.cpp's adjacent-pair rotation. */
const architectures: Readonly<Record<string, { readonly family: Family; readonly pairedRows: boolean }>> = {
  llama: { family: 'llama', pairedRows: true },
  qwen2: { family: 'qwen2', pairedRows: false },
  qwen3: { family: 'qwen3', pairedRows: false },
}

/** Keys below the architecture's name that change the computation; only the value given leaves it as it is implemented. */
const neutralValues: Readonly<Record<string, number | boolean>> = {
  expert_count: 0,
  logit_scale: 1,
  embedding_scale: 1,
  residual_scale: 1,
  attn_logit_softcapping: 0,
  final_logit_softcapping: 0,
  'attention.clamp_kqv': 0,
  'attention.max_alibi_bias': 0,
  'attention.causal': true,
  'attention.temperature_scale': 1,
  'rope.scaling.attn_factor': 1,
  use_parallel_residual: false,
}

export interface OpenGguf {
  readonly spec: ModelSpec
  readonly weights: ModelWeights
  readonly tokenizerFiles: TokenizerFiles
  readonly header: GgufHeader
}

/**
 * Opens a GGUF file and checks all of it that can be checked without reading the weights. Close `weights` when done.
 * @param id what users call the model
 * @throws ServingError `invalid_request` naming the damaged or unsupported part, `not_found` when there is no such file
 */
export async function openGgufModel(path: string, id: string): Promise<OpenGguf> {
  const handle = await open(path, 'r').catch((cause: unknown) => {
    throw new ServingError(
      'not_found',
      `${path} cannot be opened: ${cause instanceof Error ? cause.message : cause}`,
      {},
      { cause },
    )
  })
  try {
    const header = await readGgufHeader(handle, path)
    checkKind(header)
    const architecture = readArchitecture(header)
    checkTensorTypes(header)
    const factors = header.tensors.get('rope_freqs.weight')
    const ropeFactors = factors === undefined ? undefined : await readGgufTensor(handle, path, factors)
    const spec = readSpec(header, { id, ropeFactors, ...architecture })
    checkTensors(spec, shapesByName(header), { source: path, unused: isUnusedTensor })
    const weights = new GgufWeights({ handle, header, spec, pairedRows: architecture.pairedRows })
    return { spec, weights, tokenizerFiles: ggufTokenizerFiles(header.metadata, path), header }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** `rope_freqs` is in the spec; `attn_rot_embd` and `attn_rot_freqs` are left over from old converters and read by nobody. */
function isUnusedTensor(name: string): boolean {
  return name === 'rope_freqs.weight' || /^blk\.[0-9]+\.(attn_rot_embd|rope_freqs)(\.weight)?$/.test(name)
}

function shapesByName(header: GgufHeader): Map<string, readonly number[]> {
  return new Map([...header.tensors.values()].map((tensor) => [huggingFaceName(tensor.name), tensor.shape]))
}

function checkKind({ metadata, path }: GgufHeader): void {
  const kind = metadata.text('general.type') ?? 'model'
  if (kind !== 'model') throw new ServingError('invalid_request', `${path} is a GGUF file of type ${kind}, not a model`)
  const parts = metadata.count('split.count') ?? 0
  if (parts > 1) {
    throw new ServingError(
      'invalid_request',
      `${path} is one of ${parts} parts of a split GGUF file, which is not supported; join them with llama-gguf-split --merge`,
    )
  }
}

function readArchitecture({ metadata, path }: GgufHeader): { name: string; family: Family; pairedRows: boolean } {
  const name = metadata.text('general.architecture')
  if (name === undefined) throw new ServingError('invalid_request', `${path}: metadata general.architecture is missing`)
  const known = Object.hasOwn(architectures, name) ? architectures[name] : undefined
  if (known === undefined) {
    throw new ServingError(
      'invalid_request',
      `${path}: architecture ${name} is not supported; supported: ${Object.keys(architectures).join(', ')}`,
    )
  }
  return { name, ...known }
}

interface SpecSource {
  readonly id: string
  /** The architecture's name, before which all its keys stand. */
  readonly name: string
  readonly family: Family
  readonly ropeFactors: Float32Array | undefined
}

function readSpec(header: GgufHeader, source: SpecSource): ModelSpec {
  const { metadata, path, tensors } = header
  const key = (suffix: string): string => `${source.name}.${suffix}`
  const required = <T>(suffix: string, value: T | undefined): T => {
    if (value === undefined) throw new ServingError('invalid_request', `${path}: metadata ${key(suffix)} is missing`)
    return value
  }
  const positive = (suffix: string, value: number | undefined): number => {
    const present = required(suffix, value)
    if (!(present > 0))
      throw new ServingError('invalid_request', `${path}: metadata ${key(suffix)} is ${present}; it must be above 0`)
    return present
  }
  const count = (suffix: string): number => positive(suffix, metadata.count(key(suffix)))
  const uniform = (suffix: string): number => positive(suffix, metadata.uniformCount(key(suffix)))

  checkNeutral(metadata, path, source.name)
  const hiddenSize = count('embedding_length')
  const headCount = uniform('attention.head_count')
  const kvHeadCount = metadata.has(key('attention.head_count_kv')) ? uniform('attention.head_count_kv') : headCount
  const headDim = metadata.count(key('attention.key_length')) ?? hiddenSize / headCount
  checkHeads(header, { headCount, kvHeadCount, headDim, prefix: source.name })
  const embedding = tensors.get('token_embd.weight')
  if (embedding === undefined) throw new ServingError('invalid_request', `${path}: tensor token_embd.weight is missing`)

  return {
    id: source.id,
    family: source.family,
    hiddenSize,
    layerCount: count('block_count'),
    headCount,
    kvHeadCount,
    headDim,
    intermediateSize: uniform('feed_forward_length'),
    vocabSize: vocabSize(embedding, metadata, path),
    maxPositions: count('context_length'),
    rmsNormEps: positive('attention.layer_norm_rms_epsilon', metadata.number(key('attention.layer_norm_rms_epsilon'))),
    ropeTheta: metadata.number(key('rope.freq_base')) ?? 10_000,
    ropeScaling: readRopeScaling(header, source, headDim),
    tiedEmbeddings: !tensors.has('output.weight'),
    qkvBias: tensors.has('blk.0.attn_q.bias'),
    outputBias: tensors.has('blk.0.attn_output.bias'),
    mlpBias: tensors.has('blk.0.ffn_gate.bias'),
    qkNorm: tensors.has('blk.0.attn_q_norm.weight'),
    slidingWindow: metadata.uniformCount(key('attention.sliding_window')) ?? 0,
    eosTokenIds: readEosTokenIds(metadata),
  }
}

function checkNeutral(metadata: GgufMetadata, path: string, prefix: string): void {
  for (const [suffix, neutral] of Object.entries(neutralValues)) {
    const key = `${prefix}.${suffix}`
    const value = typeof neutral === 'boolean' ? metadata.flag(key) : metadata.number(key)
    if (value !== undefined && value !== neutral) {
      throw new ServingError('invalid_request', `${path}: metadata ${key} = ${value} is not supported (only ${neutral} is)`)
    }
  }
  for (const suffix of ['attention.sliding_window_pattern', 'rope.dimension_sections']) {
    if (metadata.has(`${prefix}.${suffix}`)) {
      throw new ServingError('invalid_request', `${path}: metadata ${prefix}.${suffix} is not supported`)
    }
  }
}

function checkHeads(
  { metadata, path }: GgufHeader,
  heads: { headCount: number; kvHeadCount: number; headDim: number; prefix: string },
): void {
  const { headCount, kvHeadCount, headDim, prefix } = heads
  if (headCount % kvHeadCount !== 0) {
    throw new ServingError('invalid_request', `${path}: ${headCount} heads cannot be shared by ${kvHeadCount} key-value heads`)
  }
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new ServingError('invalid_request', `${path}: head size ${headDim} is not an even number`)
  }
  for (const suffix of ['attention.value_length', 'rope.dimension_count']) {
    const value = metadata.count(`${prefix}.${suffix}`)
    if (value !== undefined && value !== headDim) {
      throw new ServingError(
        'invalid_request',
        `${path}: metadata ${prefix}.${suffix} = ${value} is not supported: it must be the head size ${headDim}`,
      )
    }
  }
}

function vocabSize(embedding: GgufTensor, metadata: GgufMetadata, path: string): number {
  const rows = embedding.shape[0] ?? 0
  const tokens = metadata.texts('tokenizer.ggml.tokens')?.length ?? 0
  if (tokens > rows) {
    throw new ServingError(
      'invalid_request',
      `${path}: the tokenizer has ${tokens} tokens, but token_embd.weight only ${rows} rows`,
    )
  }
  return rows
}

function readRopeScaling({ metadata, path }: GgufHeader, source: SpecSource, headDim: number): RopeScaling {
  const key = (suffix: string): string => `${source.name}.rope.${suffix}`
  // Files from before `rope.scaling.*` say `rope.scale_linear` alone.
  const factor = metadata.number(key('scaling.factor')) ?? metadata.number(key('scale_linear')) ?? 1
  const type = metadata.text(key('scaling.type')) ?? (factor === 1 ? 'none' : 'linear')
  if (type !== 'none' && type !== 'linear') {
    throw new ServingError(
      'invalid_request',
      `${path}: rope scaling ${type} is not supported; supported: none, linear and rope_freqs.weight`,
    )
  }
  const linear = type === 'linear' && factor !== 1
  if (linear && !(factor > 0)) throw new ServingError('invalid_request', `${path}: rope scaling factor ${factor} must be above 0`)
  if (source.ropeFactors === undefined) return linear ? { type: 'linear', factor } : { type: 'none' }
  const factors = [...source.ropeFactors]
  if (factors.length !== headDim / 2 || factors.some((value) => !(value > 0 && Number.isFinite(value)))) {
    throw new ServingError('invalid_request', `${path}: tensor rope_freqs.weight must hold ${headDim / 2} numbers above 0`)
  }
  return { type: 'factors', factors: linear ? factors.map((value) => value * factor) : factors }
}

/** Any of the tokens after which llama.cpp ends a generation: end of text, of turn, of message. */
function readEosTokenIds(metadata: GgufMetadata): number[] {
  const ids = ['eos', 'eot', 'eom'].map((name) => metadata.count(`tokenizer.ggml.${name}_token_id`))
  return [...new Set(ids.filter((id) => id !== undefined))]
}
