import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { openHfFolder } from '../../../packages/worker/src/model/hf-folder.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { tinyModel } from '../../support/tiny-models.ts'

async function copyOf(name: string): Promise<string> {
  const folder = path.join(await temporaryFolder(), name)
  await cp(tinyModel(name).path, folder, { recursive: true })
  return folder
}

async function editJson(file: string, edit: (value: Record<string, unknown>) => unknown): Promise<void> {
  await writeFile(file, JSON.stringify(edit(JSON.parse(await readFile(file, 'utf8')))))
}

/** Rewrites the header of a safetensors file. */
async function editHeader(
  file: string,
  edit: (header: Record<string, { data_offsets: number[]; dtype: string; shape: number[] }>) => void,
) {
  const bytes = await readFile(file)
  const length = Number(bytes.readBigUInt64LE())
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length))
  edit(header)
  const text = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(text.length))
  await writeFile(file, Buffer.concat([prefix, text, bytes.subarray(8 + length)]))
}

describe('a whole folder', () => {
  it('brings its tokenizer, its template and its end tokens', async () => {
    const { tokenizerFiles, spec, weights } = await openHfFolder(tinyModel('llama-fp32-tied').path, 'x')
    await weights.close()
    expect(spec.eosTokenIds).toEqual([2, 0])
    expect(tokenizerFiles.kind).toBe('json')
    expect(tokenizerFiles.chatTemplate).toContain('<|im_start|>')
  })

  it('prefers chat_template.jinja to the template in the tokenizer configuration', async () => {
    const folder = await copyOf('qwen2-bf16')
    await writeFile(path.join(folder, 'chat_template.jinja'), '{{ messages }}')
    const { tokenizerFiles, weights } = await openHfFolder(folder, 'x')
    await weights.close()
    expect(tokenizerFiles.chatTemplate).toBe('{{ messages }}')
  })

  it('takes the default one of several named templates', async () => {
    const folder = await copyOf('qwen2-bf16')
    const templates = [
      { name: 'tool_use', template: 'no' },
      { name: 'default', template: 'yes' },
    ]
    await editJson(path.join(folder, 'tokenizer_config.json'), (config) => ({ ...config, chat_template: templates }))
    const { tokenizerFiles, weights } = await openHfFolder(folder, 'x')
    await weights.close()
    expect(tokenizerFiles.chatTemplate).toBe('yes')
  })
})

describe('a damaged folder is refused and the message names the file', () => {
  const sharded = 'llama-bf16-sharded'
  const single = 'qwen2-bf16'
  const cases: readonly (readonly [string, string, (folder: string) => Promise<unknown>, RegExp])[] = [
    ['no config', single, (f) => rm(path.join(f, 'config.json')), /neither config\.json nor a \.gguf file/],
    ['a config that is not JSON', single, (f) => writeFile(path.join(f, 'config.json'), '{'), /config\.json is not JSON/],
    ['no tokenizer', single, (f) => rm(path.join(f, 'tokenizer.json')), /has no tokenizer\.json/],
    [
      'no weights',
      single,
      (f) => rm(path.join(f, 'model.safetensors')),
      /neither model\.safetensors nor model\.safetensors\.index\.json/,
    ],
    [
      'a missing shard',
      sharded,
      (f) => rm(path.join(f, 'model-00002-of-00003.safetensors')),
      /model-00002-of-00003\.safetensors, which model\.safetensors\.index\.json names, cannot be opened/,
    ],
    [
      'a shard outside the folder',
      sharded,
      (f) => editJson(path.join(f, 'model.safetensors.index.json'), () => ({ weight_map: { a: '../b.safetensors' } })),
      /tensor a is in "\.\.\/b\.safetensors", which is not a \.safetensors file in the same folder/,
    ],
    [
      'a tensor in another shard than the index says',
      sharded,
      (f) =>
        editJson(path.join(f, 'model.safetensors.index.json'), ({ weight_map }) => ({
          weight_map: { ...(weight_map as object), 'model.norm.weight': 'model-00001-of-00003.safetensors' },
        })),
      /tensor model\.norm\.weight is not in model-00001-of-00003\.safetensors but in/,
    ],
    [
      'an index without a map',
      sharded,
      (f) => writeFile(path.join(f, 'model.safetensors.index.json'), '{}'),
      /index\.json: weight_map is missing/,
    ],
    [
      'a file cut short',
      single,
      async (f) =>
        writeFile(path.join(f, 'model.safetensors'), (await readFile(path.join(f, 'model.safetensors'))).subarray(0, -10)),
      /model\.safetensors is not a readable safetensors file: the file is 10 bytes short/,
    ],
    [
      'a header beyond the file',
      single,
      (f) => writeFile(path.join(f, 'model.safetensors'), Buffer.from('ffff000000000000', 'hex')),
      /announces a header of 65535 bytes; the file has 8/,
    ],
    [
      'an endless header',
      single,
      (f) => writeFile(path.join(f, 'model.safetensors'), Buffer.from('ffffffffffffff7f', 'hex')),
      /announces a header of 9223372036854775807 bytes; the limit is 104857600/,
    ],
    [
      'a type that cannot be read',
      single,
      (f) => editHeader(path.join(f, 'model.safetensors'), (h) => Object.assign(h['model.norm.weight'] ?? {}, { dtype: 'I16' })),
      /tensor model\.norm\.weight has dtype I16, which is not supported; supported: F32, F16, BF16/,
    ],
    [
      'a shape that the bytes do not fill',
      single,
      (f) => editHeader(path.join(f, 'model.safetensors'), (h) => Object.assign(h['model.norm.weight'] ?? {}, { shape: [65] })),
      /tensor "model\.norm\.weight" of shape \[65\] and dtype BF16 does not fill its 128 bytes exactly/,
    ],
    [
      'a header that names a tensor twice',
      single,
      async (f) => {
        const file = path.join(f, 'model.safetensors')
        const bytes = await readFile(file)
        const length = Number(bytes.readBigUInt64LE())
        const header = bytes.toString('utf8', 8, 8 + length).trimEnd()
        const twice = Buffer.from(
          header.replace('{', '{"model.norm.weight":{"dtype":"BF16","shape":[64],"data_offsets":[0,128]},'),
        )
        const prefix = Buffer.alloc(8)
        prefix.writeBigUInt64LE(BigInt(twice.length))
        await writeFile(file, Buffer.concat([prefix, twice, bytes.subarray(8 + length)]))
      },
      /the key "model\.norm\.weight" stands there twice/,
    ],
    [
      'another size than the config says',
      single,
      (f) => editJson(path.join(f, 'config.json'), (c) => ({ ...c, intermediate_size: 96 })),
      /gate_proj\.weight has shape \[64, 64\], but the model's configuration asks for \[96, 64\]/,
    ],
    [
      'more layers than the config says',
      single,
      (f) => editJson(path.join(f, 'config.json'), (c) => ({ ...c, num_hidden_layers: 1, layer_types: ['full_attention'] })),
      /tensor model\.layers\.1\..* belongs to no part of a qwen2 model/,
    ],
    [
      'a head that is not tied and not there',
      single,
      (f) => editJson(path.join(f, 'config.json'), (c) => ({ ...c, tie_word_embeddings: false })),
      /tensor lm_head\.weight is missing/,
    ],
  ]
  it.each(cases)('%s', async (_what, name, damage, message) => {
    const folder = await copyOf(name)
    await damage(folder)
    await expect(openHfFolder(folder, 'x')).rejects.toThrow(message)
  })
})
