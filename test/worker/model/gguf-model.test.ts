import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { type OpenGguf, openGgufModel } from '../../../packages/worker/src/model/gguf-model.ts'
import { huggingFaceName, splitRotaryHalves } from '../../../packages/worker/src/model/gguf-weights.ts'
import {
  type BuilderFile,
  type BuilderValue,
  buildGguf,
  smallLlamaMetadata,
  smallLlamaTensors,
} from '../../support/gguf-builder.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { tinyModel } from '../../support/tiny-models.ts'

const good: BuilderFile = { metadata: smallLlamaMetadata, tensors: smallLlamaTensors }

/** The small model with these keys set or replaced. */
function withMetadata(...changes: readonly (readonly [string, BuilderValue])[]): BuilderFile {
  return { ...good, metadata: [...new Map([...smallLlamaMetadata, ...changes])] }
}

async function openFile(file: BuilderFile): Promise<OpenGguf> {
  const location = path.join(await temporaryFolder(), 'model.gguf')
  await writeFile(location, buildGguf(file))
  const model = await openGgufModel(location, 'small')
  await model.weights.close()
  return model
}

describe('spec', () => {
  it('fills in what a file may leave out', async () => {
    const { spec } = await openFile(good)
    expect(spec).toMatchObject({
      headDim: 16,
      kvHeadCount: 2,
      ropeTheta: 10_000,
      ropeScaling: { type: 'none' },
      slidingWindow: 0,
    })
    expect(spec).toMatchObject({ tiedEmbeddings: true, qkvBias: false, vocabSize: 4, eosTokenIds: [] })
  })

  it('ends generations at the end of text, of turn and of message', async () => {
    const { spec } = await openFile(
      withMetadata(
        ['tokenizer.ggml.eos_token_id', { type: 'u32', value: 2 }],
        ['tokenizer.ggml.eot_token_id', { type: 'u32', value: 3 }],
        ['tokenizer.ggml.eom_token_id', { type: 'u32', value: 2 }],
      ),
    )
    expect(spec.eosTokenIds).toEqual([2, 3])
  })

  it('takes the rope factors of a llama-3 file as they are', async () => {
    const { spec, weights } = await openGgufModel(tinyModel('gguf-llama-f16').path, 'x')
    await weights.close()
    expect(spec.ropeScaling.type).toBe('factors')
    const factors = spec.ropeScaling.type === 'factors' ? spec.ropeScaling.factors : []
    expect(factors).toHaveLength(8)
    expect([factors[0], factors.at(-1)]).toEqual([1, 8])
  })

  it('reads a sliding window', async () => {
    const { spec } = await openFile(withMetadata(['llama.attention.sliding_window', { type: 'u32', value: 16 }]))
    expect(spec.slidingWindow).toBe(16)
  })
})

describe('what is not supported is refused by name when the file is opened', () => {
  const text = (value: string): BuilderValue => ({ type: 'string', value })
  const number = (value: number): BuilderValue => ({ type: 'f32', value })
  const cases: readonly (readonly [string, BuilderFile, RegExp])[] = [
    [
      'architecture',
      withMetadata(['general.architecture', text('gemma3')]),
      /architecture gemma3 is not supported; supported: llama, qwen2, qwen3/,
    ],
    ['an adapter', withMetadata(['general.type', text('adapter')]), /GGUF file of type adapter, not a model/],
    ['a part of a split file', withMetadata(['split.count', { type: 'u32', value: 3 }]), /one of 3 parts of a split GGUF file/],
    ['experts', withMetadata(['llama.expert_count', { type: 'u32', value: 8 }]), /llama\.expert_count = 8 is not supported/],
    [
      'yarn',
      withMetadata(['llama.rope.scaling.type', text('yarn')]),
      /rope scaling yarn is not supported; supported: none, linear/,
    ],
    [
      'partial rotation',
      withMetadata(['llama.rope.dimension_count', { type: 'u32', value: 8 }]),
      /rope\.dimension_count = 8 is not supported/,
    ],
    ['soft caps', withMetadata(['llama.attn_logit_softcapping', number(50)]), /attn_logit_softcapping = 50 is not supported/],
    [
      'layers of different size',
      withMetadata(['llama.feed_forward_length', { type: 'i32s', value: [32, 64] }]),
      /llama\.feed_forward_length differs between layers/,
    ],
    [
      'no context length',
      { ...good, metadata: smallLlamaMetadata.filter(([key]) => !key.endsWith('context_length')) },
      /llama\.context_length is missing/,
    ],
    [
      'no tokenizer',
      { ...good, metadata: smallLlamaMetadata.filter(([key]) => !key.startsWith('tokenizer')) },
      /has no tokenizer/,
    ],
    [
      'a tensor type',
      replaceTensor('blk.0.ffn_up.weight', { type: 6, bytes: 32 * 22 }),
      /tensor blk\.0\.ffn_up\.weight has type Q5_0, which is not supported; supported: F32, F16, BF16/,
    ],
    [
      'a tensor that is missing',
      { ...good, tensors: smallLlamaTensors.filter(({ name }) => name !== 'blk.0.attn_v.weight') },
      /tensor model\.layers\.0\.self_attn\.v_proj\.weight is missing/,
    ],
    [
      'a tensor of another shape',
      replaceTensor('blk.0.attn_k.weight', { shape: [16, 32] }),
      /k_proj\.weight has shape \[16, 32\], but .* asks for \[32, 32\]/,
    ],
    [
      'a tensor that nobody would use',
      { ...good, tensors: [...smallLlamaTensors, { name: 'blk.0.attn_sinks.weight', shape: [2], type: 0, bytes: 8 }] },
      /tensor blk\.0\.attn_sinks\.weight belongs to no part of a llama model/,
    ],
  ]
  it.each(cases)('%s', async (_what, file, message) => {
    await expect(openFile(file)).rejects.toThrow(message)
  })

  function replaceTensor(name: string, change: object): BuilderFile {
    return { ...good, tensors: smallLlamaTensors.map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor)) }
  }
})

describe('weights', () => {
  it('maps names of both kinds and leaves unknown ones alone', () => {
    expect(huggingFaceName('blk.12.attn_output.bias')).toBe('model.layers.12.self_attn.o_proj.bias')
    expect(huggingFaceName('output.weight')).toBe('lm_head.weight')
    expect(huggingFaceName('blk.0.constructor.weight')).toBe('blk.0.constructor.weight')
  })

  it('puts the members of a rotated pair half a head apart', () => {
    const rows = Float32Array.from([0, 4, 1, 5, 2, 6, 3, 7])
    expect([...splitRotaryHalves(rows, 8, 1)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect([...splitRotaryHalves(rows, 4, 2)]).toEqual([0, 4, 2, 6, 1, 5, 3, 7])
  })

  it('names a tensor that is not there', async () => {
    const { weights } = await tinyModel('gguf-llama-q4_0').open()
    await expect(weights.read('model.layers.9.mlp.up_proj.weight')).rejects.toThrow(
      /has no tensor model\.layers\.9\.mlp\.up_proj\.weight/,
    )
    await weights.close()
  })
})
