import type { BaseLayout } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { inspectAdapter } from '../../../packages/cache/src/format/inspect.ts'
import {
  type AdapterOptions,
  type BuiltTensor,
  buildAdapter,
  f32Tensor,
  jsonBytes,
  safetensors,
  tensorName,
  tinyLayout,
} from '../../support/adapter-files.ts'
import { refusal } from '../../support/refusal.ts'

const MAX_RANK = 8
type Change = (tensors: readonly BuiltTensor[]) => readonly BuiltTensor[]

const inspect = (options: AdapterOptions, change: Change = (tensors) => tensors, layout: BaseLayout = tinyLayout) => {
  const built = buildAdapter(options)
  return inspectAdapter(built.config, safetensors(change(built.tensors)), layout, MAX_RANK)
}
const q0A = tensorName(0, 'q_proj', 'A')
const q0B = tensorName(0, 'q_proj', 'B')
const without =
  (name: string): Change =>
  (tensors) =>
    tensors.filter((tensor) => tensor.name !== name)
const replaced =
  (name: string, by: Partial<BuiltTensor>): Change =>
  (tensors) =>
    tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...by } : tensor))
const added =
  (tensor: BuiltTensor): Change =>
  (tensors) => [...tensors, tensor]
const renamed =
  (rename: (name: string) => string): Change =>
  (tensors) =>
    tensors.map((tensor) => ({ ...tensor, name: rename(tensor.name) }))
const swapped: Change = (tensors) => tensors.map((tensor) => ({ ...tensor, shape: tensor.shape.toReversed() }))
const small = (name: string): BuiltTensor => f32Tensor(name, [2, 4], new Float32Array(8))

const refused: readonly (readonly [string, AdapterOptions, Change, RegExp])[] = [
  [
    'S07 a tensor named __proto__',
    {},
    renamed((name) => (name === q0A ? '__proto__' : name)),
    /"__proto__": the name has no place/,
  ],
  ['S11 F64 weights', {}, replaced(q0A, { dtype: 'F64', bytes: new Uint8Array(64) }), /has dtype F64; F32, F16 and BF16/],
  ['S11 I8 weights', {}, replaced(q0A, { dtype: 'I8', bytes: new Uint8Array(8) }), /has dtype I8/],
  ['S11 F8 weights', {}, replaced(q0A, { dtype: 'F8_E4M3', bytes: new Uint8Array(8) }), /has dtype F8_E4M3/],
  ['S12 a file without tensors', {}, () => [], /holds no tensor/],
  [
    'S12 a tensor without elements',
    {},
    replaced(q0A, { shape: [0, 4], bytes: new Uint8Array() }),
    /shape \[0, 4\]; two dimensions above 0/,
  ],
  ['S12 a tensor without dimensions', {}, replaced(q0A, { shape: [], bytes: new Uint8Array(4) }), /shape \[\]; two dimensions/],
  ['S13 A without B', {}, without(q0B), /layers\.0\.self_attn\.q_proj is targeted, but lora_B is missing/],
  ['S13 B without A', {}, without(q0A), /q_proj is targeted, but lora_A is missing/],
  ['S13 another rank than the config says', { config: { r: 4 } }, (t) => t, /lora_A has shape \[2, 4\] instead of \[4, 4\]/],
  [
    'S13 a rank that differs without rank_pattern',
    { rankOf: (layer) => (layer === 1 ? 3 : 2) },
    (t) => t,
    /layers\.1\.self_attn\.q_proj\.lora_A has shape \[3, 4\] instead of \[2, 4\]/,
  ],
  [
    'S13 A and B swapped',
    { targets: ['q_proj'] },
    renamed((name) => name.replace(/lora_([AB])/, (_, side) => (side === 'A' ? 'lora_B' : 'lora_A'))),
    /transposed, or A and B swapped/,
  ],
  ['S13 transposed tensors', { targets: ['q_proj'] }, swapped, /transposed, or A and B swapped/],
  [
    'S13 a layer beyond the model',
    { layout: { ...tinyLayout, layerCount: 3 } },
    (t) => t,
    /tensors for model\.layers\.2\.self_attn\.q_proj: the base model has 2 layers/,
  ],
  ['S13 a misspelt module', {}, added(small(tensorName(0, 'qproj', 'A'))), /the base model has no module "self_attn\.qproj"/],
  [
    'S13 a module under another parent',
    {},
    renamed((name) => name.replace('self_attn.q_proj', 'mlp.q_proj')),
    /no module "mlp\.q_proj"/,
  ],
  [
    'S13 a layer that is missing',
    { layers: [1] },
    (t) => t,
    /model\.layers\.0\.self_attn\.q_proj is targeted, but lora_A and lora_B are? missing/,
  ],
  [
    'S13 a wrong out size',
    {
      layout: {
        ...tinyLayout,
        modules: tinyLayout.modules.map((m) => (m.name === 'v_proj' ? { ...m, outFeatures: 4 } : m)),
      } as BaseLayout,
    },
    (t) => t,
    /v_proj\.lora_B has shape \[4, 2\] instead of \[2, 2\]/,
  ],
  [
    'S14 NaN',
    { value: (tensor, i) => (tensor === q0B && i === 3 ? Number.NaN : 1) },
    (t) => t,
    /q_proj\.lora_B\.weight" holds NaN or infinity at element 3/,
  ],
  [
    'S14 infinity',
    { value: (tensor, i) => (tensor === q0A && i === 0 ? Number.NEGATIVE_INFINITY : 1) },
    (t) => t,
    /holds NaN or infinity at element 0/,
  ],
  [
    'S19 an embedding adapter',
    {},
    added(small('base_model.model.model.embed_tokens.lora_embedding_A')),
    /adapter on the embedding is not supported/,
  ],
  [
    'S19 an adapter on the head',
    {},
    added(small('base_model.model.lm_head.lora_A.weight')),
    /adapter on the head \(lm_head\) is not supported/,
  ],
  [
    'S19 DoRA magnitudes',
    {},
    added(small('base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector')),
    /DoRA magnitudes/,
  ],
  ['S19 a bias', {}, added(small('base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias')), /a bias on an adapter/],
  ['S19 another adapter name', {}, renamed((name) => name.replace('.weight', '.mine.weight')), /the name has no place/],
  ['S19 another prefix', {}, renamed((name) => `transformer.${name}`), /the name has no place/],
  [
    'S19 one tensor under two names',
    {},
    added({ ...small(q0A.replace('base_model.model.', '')) }),
    /repeats lora_A of model\.layers\.0/,
  ],
  [
    'C08 a tensor that the config does not target',
    {},
    added(small(tensorName(0, 'o_proj', 'A'))),
    /o_proj, which adapter_config\.json does not target/,
  ],
  [
    'C08 a targeted module without tensors',
    { config: { target_modules: ['q_proj', 'v_proj', 'k_proj'] } },
    (t) => t,
    /k_proj is targeted, but lora_A and lora_B are? missing/,
  ],
  [
    'C08 tensors of a layer that layers_to_transform leaves out',
    { config: { layers_to_transform: [0] } },
    (t) => t,
    /layers\.1\.self_attn\.q_proj, which adapter_config\.json does not target/,
  ],
  ['C08 targets that leave nothing', { config: { target_modules: 'no_such_module' } }, (t) => t, /targets no module/],
]

describe('an adapter', () => {
  it.each(refused)('is refused for %s', async (_, options, change, message) => {
    const error = await refusal(() => inspect(options, change))
    expect(error.code).toBe('adapter_invalid')
    expect(error.message).toMatch(message)
  })

  it('C09 of another base model is told as such, with both sizes', async () => {
    const other: BaseLayout = {
      ...tinyLayout,
      baseModel: 'meta/big',
      hiddenSize: 8,
      modules: tinyLayout.modules.map((m) => ({
        ...m,
        inFeatures: m.inFeatures * 2,
        outFeatures: m.outFeatures * 2,
      })) as BaseLayout['modules'],
    }
    const error = await refusal(() => inspect({ layout: other, targets: ['q_proj', 'o_proj', 'down_proj'] }))
    expect(error.message).toBe('the adapter was trained for "meta/big" (hidden size 8), this worker serves "tiny/base" (4)')
  })

  it('C09 of another base model of the same hidden size is told as such, with what does not fit', async () => {
    const deeper = { ...tinyLayout, baseModel: 'meta/deep', layerCount: 3 }
    const error = await refusal(() => inspect({ layout: deeper }))
    expect(error.message).toMatch(
      /^the adapter was trained for "meta\/deep", this worker serves "tiny\/base": .*the base model has 2 layers/,
    )
    const kind = renamed((name) => name.replace('model.layers', 'transformer.h'))
    const foreign = await refusal(() => inspect({ config: { base_model_name_or_path: 'org/other-kind' } }, kind))
    expect(foreign.message).toMatch(
      /^the adapter was trained for "org\/other-kind", this worker serves "tiny\/base": tensor .*no place/,
    )
  })

  it.each(['tiny/base', 'TINY/Base/', 'mirror/base', '', undefined])(
    'C09 named %j is not called another base model when something is wrong with it',
    async (base_model_name_or_path) => {
      const error = await refusal(() => inspect({ layers: [0], config: { base_model_name_or_path } }))
      expect(error.message).not.toContain('was trained for')
    },
  )

  it('C09 with another base model name but fitting shapes is accepted', async () => {
    await expect(inspect({ config: { base_model_name_or_path: '/somebody/elses/folder' } })).resolves.toMatchObject({ rank: 2 })
  })

  it('tells every reason at once', async () => {
    const error = await refusal(() => inspect({}, (tensors) => without(q0B)(added(small(tensorName(1, 'o_proj', 'A')))(tensors))))
    expect(error.message).toMatch(/o_proj.*; .*lora_B is missing/)
  })

  const accepted: readonly (readonly [string, AdapterOptions, Change])[] = [
    ['S19 without the prefix base_model.model.', {}, renamed((name) => name.replace('base_model.model.', ''))],
    ['S19 with the adapter name default', {}, renamed((name) => name.replace('.weight', '.default.weight'))],
    [
      'C06 with rank_pattern',
      { rankOf: (layer) => (layer === 1 ? 3 : 2), config: { rank_pattern: { 'layers.1.*': 3 } } },
      (t) => t,
    ],
    ['C06 with layers_to_transform', { layers: [1], config: { layers_to_transform: [1] } }, (t) => t],
    [
      'C06 with exclude_modules',
      { targets: ['q_proj'], config: { target_modules: 'all-linear', exclude_modules: '.*(?:[kvo]|gate|up|down)_proj' } },
      (t) => t,
    ],
    ['C07 with a pattern', { config: { target_modules: '.*\\.(q|v)_proj' } }, (t) => t],
    [
      'of all modules',
      { targets: tinyLayout.modules.map(({ name }) => name), config: { target_modules: 'all-linear' } },
      (t) => t,
    ],
  ]
  it.each(accepted)('is accepted %s', async (_, options, change) => {
    await expect(inspect(options, change)).resolves.toMatchObject({ bytes: expect.any(Number) })
  })

  it('is described by rank, kinds of modules and size', async () => {
    const built = buildAdapter({
      targets: ['down_proj', 'q_proj'],
      rankOf: (_, module) => (module === 'q_proj' ? 5 : 2),
      config: { rank_pattern: { q_proj: 5 } },
    })
    const report = await inspectAdapter(built.config, built.weights, tinyLayout, MAX_RANK)
    expect(report).toMatchObject({ rank: 5, modules: ['q_proj', 'down_proj'], bytes: built.weights.length })
    expect(report.digest).toMatch(/^[0-9a-f]{64}$/)
  })

  it('S02 with a header of 30,000 tensors is refused in bounded time', async () => {
    const built = buildAdapter()
    const names = Array.from({ length: 30_000 }, (_, i) => f32Tensor(`t${i}`, [0], []))
    const startedAt = performance.now()
    await refusal(() => inspectAdapter(jsonBytes(built.configFields), safetensors(names), tinyLayout, MAX_RANK))
    // Some tenths of a second; minutes, if every tensor were compared with every other.
    expect(performance.now() - startedAt).toBeLessThan(20_000)
  })
})
