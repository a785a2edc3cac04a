import type { FileHandle } from 'node:fs/promises'
import { ServingError } from '@quiver/protocol'
import { dequantizers } from './gguf-dequantize.ts'
import type { GgufHeader, GgufTensor } from './gguf-reader.ts'
import { isSupportedGgufType, supportedGgufTypes } from './gguf-types.ts'
import type { ModelSpec, ModelWeights } from './model-spec.ts'

/** Bytes read from the file at a time: bounds the memory that a read takes beside its result. */
const CHUNK_BYTES = 4 * 1024 * 1024

const wholeNames: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
}

const layerNames: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
}

/** @returns Hugging Face's name of a GGUF tensor; the name as it stands when there is none */
export function huggingFaceName(name: string): string {
  const whole = Object.hasOwn(wholeNames, name) ? wholeNames[name] : undefined
  if (whole !== undefined) return whole
  const parts = /^blk\.(0|[1-9][0-9]*)\.([a-z_]+)\.(weight|bias)$/.exec(name)
  const part = parts?.[2] ?? ''
  if (parts === null || !Object.hasOwn(layerNames, part)) return name
  return `model.layers.${parts[1]}.${layerNames[part]}.${parts[3]}`
}

/**
 * Refuses tensors whose type cannot be read, before the first is.
 * @throws ServingError `invalid_request` naming tensor, type and what is supported
 */
export function checkTensorTypes(header: GgufHeader): void {
  for (const { name, type } of header.tensors.values()) {
    if (!isSupportedGgufType(type.name)) {
      throw new ServingError(
        'invalid_request',
        `${header.path}: tensor ${name} has type ${type.name}, which is not supported; supported: ${supportedGgufTypes.join(', ')}`,
      )
    }
  }
}

/** Reads one tensor as float32, [out, in] row-major as the file has it. */
export async function readGgufTensor(handle: FileHandle, path: string, tensor: GgufTensor): Promise<Float32Array<ArrayBuffer>> {
  const { type } = tensor
  if (!isSupportedGgufType(type.name)) {
    throw new ServingError('invalid_request', `${path}: tensor ${tensor.name} has type ${type.name}, which is not supported`)
  }
  const dequantize = dequantizers[type.name]
  const values = new Float32Array(tensor.elements)
  const blocksPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / type.blockBytes))
  const chunk = Buffer.allocUnsafe(Math.min(blocksPerChunk * type.blockBytes, tensor.bytes))
  const blocks = tensor.bytes / type.blockBytes
  for (let block = 0; block < blocks; block += blocksPerChunk) {
    const count = Math.min(blocksPerChunk, blocks - block)
    const bytes = chunk.subarray(0, count * type.blockBytes)
    await readFully(handle, bytes, tensor.offset + block * type.blockBytes, `${path}: tensor ${tensor.name}`)
    dequantize(bytes, values.subarray(block * type.blockElements, (block + count) * type.blockElements))
  }
  return values
}

async function readFully(handle: FileHandle, target: Buffer, position: number, what: string): Promise<void> {
  let filled = 0
  while (filled < target.length) {
    const { bytesRead } = await handle.read(target, filled, target.length - filled, position + filled)
    if (bytesRead === 0) throw new ServingError('invalid_request', `${what} could not be read: the file was cut short`)
    filled += bytesRead
  }
}

/**
 * The weights of an open GGUF file under Hugging Face's names. The `llama` architecture stores the rows of q and k so that the
 * two members of a rotated pair lie side by side; transformers has them half a head apart, which is restored here (llama.cpp's
 * converter does `reshape(heads, 2, headDim / 2, …).swapaxes(1, 2)`; this is its inverse).
 */
export class GgufWeights implements ModelWeights {
  readonly #handle: FileHandle
  readonly #header: GgufHeader
  readonly #spec: ModelSpec
  readonly #pairedRows: boolean
  readonly #tensors: ReadonlyMap<string, GgufTensor>

  constructor(source: { handle: FileHandle; header: GgufHeader; spec: ModelSpec; pairedRows: boolean }) {
    this.#handle = source.handle
    this.#header = source.header
    this.#spec = source.spec
    this.#pairedRows = source.pairedRows
    this.#tensors = new Map([...source.header.tensors.values()].map((tensor) => [huggingFaceName(tensor.name), tensor]))
  }

  has(name: string): boolean {
    return this.#tensors.has(name)
  }

  async read(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { path } = this.#header
    const tensor = this.#tensors.get(name)
    if (tensor === undefined) throw new ServingError('not_found', `${path} has no tensor ${name}`)
    const values = await readGgufTensor(this.#handle, path, tensor)
    if (!this.#pairedRows || !/\.self_attn\.[qk]_proj\.(weight|bias)$/.test(name)) return values
    return splitRotaryHalves(values, this.#spec.headDim, tensor.shape.length === 1 ? 1 : (tensor.shape[1] ?? 1))
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** Moves row 2i + h of every head of `values` [heads · headDim, columns] to row h · headDim / 2 + i. */
export function splitRotaryHalves(
  values: Float32Array<ArrayBuffer>,
  headDim: number,
  columns: number,
): Float32Array<ArrayBuffer> {
  const moved = new Float32Array(values.length)
  const rows = values.length / columns
  const half = headDim / 2
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const target = row - inHead + (inHead & 1) * half + (inHead >> 1)
    moved.set(values.subarray(row * columns, (row + 1) * columns), target * columns)
  }
  return moved
}
