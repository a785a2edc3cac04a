/** Writes small GGUF files for tests, well-formed unless told otherwise. Layout: the ggml project's docs/gguf.md. */

export type BuilderValue =
  | { readonly type: 'u32'; readonly value: number }
  | { readonly type: 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s'; readonly value: readonly number[] }

export interface BuilderTensor {
  readonly name: string
  /** Outermost first. */
  readonly shape: readonly number[]
  /** ggml's type number. */
  readonly type: number
  readonly bytes: number
  /** Instead of the place after the tensor before. */
  readonly offset?: number
}

export interface BuilderFile {
  readonly version?: number
  readonly metadata: readonly (readonly [string, BuilderValue])[]
  readonly tensors: readonly BuilderTensor[]
  /** Instead of the true counts. */
  readonly tensorCount?: bigint
  readonly metadataCount?: bigint
}

const typeNumbers = { u32: 4, f32: 6, bool: 7, string: 8, strings: 9, i32s: 9 } as const

export function buildGguf(file: BuilderFile): Buffer {
  const parts: Buffer[] = [Buffer.from('GGUF'), u32(file.version ?? 3)]
  parts.push(u64(file.tensorCount ?? BigInt(file.tensors.length)), u64(file.metadataCount ?? BigInt(file.metadata.length)))
  for (const [key, value] of file.metadata) parts.push(text(key), u32(typeNumbers[value.type]), ...encode(value))
  let offset = 0
  for (const tensor of file.tensors) {
    const start = tensor.offset ?? offset
    parts.push(text(tensor.name), u32(tensor.shape.length), ...tensor.shape.toReversed().map((n) => u64(BigInt(n))))
    parts.push(u32(tensor.type), u64(BigInt(start)))
    offset = Math.ceil((start + tensor.bytes) / 32) * 32
  }
  const header = Buffer.concat(parts)
  const padding = Buffer.alloc(Math.ceil(header.length / 32) * 32 - header.length)
  return Buffer.concat([header, padding, Buffer.alloc(offset)])
}

/** The least metadata that a llama model needs, for one layer of 32 wide. */
export const smallLlamaMetadata: readonly (readonly [string, BuilderValue])[] = [
  ['general.architecture', { type: 'string', value: 'llama' }],
  ['llama.context_length', { type: 'u32', value: 64 }],
  ['llama.embedding_length', { type: 'u32', value: 32 }],
  ['llama.block_count', { type: 'u32', value: 1 }],
  ['llama.feed_forward_length', { type: 'u32', value: 32 }],
  ['llama.attention.head_count', { type: 'u32', value: 2 }],
  ['llama.attention.layer_norm_rms_epsilon', { type: 'f32', value: 1e-5 }],
  ['tokenizer.ggml.model', { type: 'string', value: 'gpt2' }],
  ['tokenizer.ggml.tokens', { type: 'strings', value: ['a', 'b', 'c', 'd'] }],
]

const matrix = (name: string, rows: number): BuilderTensor => ({ name, shape: [rows, 32], type: 0, bytes: rows * 128 })
const vector = (name: string): BuilderTensor => ({ name, shape: [32], type: 0, bytes: 128 })

/** The tensors of that model, all F32. */
export const smallLlamaTensors: readonly BuilderTensor[] = [
  matrix('token_embd.weight', 4),
  vector('output_norm.weight'),
  vector('blk.0.attn_norm.weight'),
  ...['attn_q', 'attn_k', 'attn_v', 'attn_output'].map((name) => matrix(`blk.0.${name}.weight`, 32)),
  vector('blk.0.ffn_norm.weight'),
  ...['ffn_gate', 'ffn_up', 'ffn_down'].map((name) => matrix(`blk.0.${name}.weight`, 32)),
]

function encode(value: BuilderValue): Buffer[] {
  switch (value.type) {
    case 'u32':
      return [u32(value.value)]
    case 'f32': {
      const bytes = Buffer.alloc(4)
      bytes.writeFloatLE(value.value)
      return [bytes]
    }
    case 'bool':
      return [Buffer.from([value.value])]
    case 'string':
      return [text(value.value)]
    case 'strings':
      return [u32(8), u64(BigInt(value.value.length)), ...value.value.map(text)]
    case 'i32s':
      return [u32(5), u64(BigInt(value.value.length)), ...value.value.map((n) => u32(n >>> 0))]
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(BigInt(bytes.length)), bytes])
}
