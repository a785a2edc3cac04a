/** Drops for a tiny base model, sound ones and broken ones, and what became of them. */
import type { ObjectStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import { type BuiltTensor, buildAdapter, f32Tensor, jsonBytes, rawSafetensors, safetensors, tensorName } from './adapter-files.ts'

export type DropFiles = Readonly<Record<string, Uint8Array>>

const text = (value: string) => new TextEncoder().encode(value)

/** Number `n`'s own weights; every number is another digest. */
export function soundDrop(n: number): {
  'adapter_config.json': Uint8Array
  'adapter_model.safetensors': Uint8Array<ArrayBuffer>
} {
  const { config, weights } = buildAdapter({ value: (_, i) => n + i / 8 })
  return { 'adapter_config.json': config, 'adapter_model.safetensors': weights }
}

/** Replaces the shape of what a name says. */
function withTensor(built: readonly BuiltTensor[], name: string, change: (tensor: BuiltTensor) => readonly BuiltTensor[]) {
  return safetensors(built.flatMap((tensor) => (tensor.name === name ? change(tensor) : [tensor])))
}

const { config, configFields, tensors, weights } = buildAdapter()
const firstA = tensorName(0, 'q_proj', 'A')
const drop = (changed: Record<string, Uint8Array>): DropFiles => ({
  'adapter_config.json': config,
  'adapter_model.safetensors': weights,
  ...changed,
})
const withConfig = (fields: Record<string, unknown>) => drop({ 'adapter_config.json': jsonBytes({ ...configFields, ...fields }) })
const withWeights = (bytes: Uint8Array) => drop({ 'adapter_model.safetensors': bytes })

/** Ways to be wrong, and what the refusal has to say of it. */
export const brokenDrops: readonly { readonly what: string; readonly files: DropFiles; readonly reason: RegExp }[] = [
  {
    what: 'a pickle beside the config',
    files: { 'adapter_config.json': config, 'adapter_model.bin': text('PK') },
    reason: /adapter_model\.bin is a pickle/,
  },
  {
    what: 'a pickle under the name of safetensors',
    files: withWeights(Uint8Array.from([0x80, 2, 0x7d, 0x71, 0, 0x2e, 0x80, 0x80, 0x80, 0x80])),
    reason: /pickle or zip file under another name/,
  },
  {
    what: 'a NaN',
    files: withWeights(buildAdapter({ value: (_, i) => (i === 3 ? Number.NaN : 1) }).weights),
    reason: /holds NaN or infinity at element 3/,
  },
  {
    what: 'an infinity',
    files: withWeights(buildAdapter({ value: (_, i) => (i === 2 ? Number.POSITIVE_INFINITY : 1) }).weights),
    reason: /holds NaN or infinity at element 2/,
  },
  {
    what: 'another base',
    files: (() => {
      const layout = {
        baseModel: 'other/base',
        hiddenSize: 8,
        layerCount: 2,
        modules: (['q_proj', 'v_proj'] as const).map((name) => ({ name, inFeatures: 8, outFeatures: 8 })) as [
          { name: 'q_proj'; inFeatures: number; outFeatures: number },
        ],
      }
      const other = buildAdapter({ layout })
      return { 'adapter_config.json': other.config, 'adapter_model.safetensors': other.weights }
    })(),
    reason: /trained for "other\/base" \(hidden size 8\), this worker serves "tiny\/base" \(4\)/,
  },
  { what: 'a file that ends too early', files: withWeights(weights.slice(0, -10)), reason: /10 bytes short/ },
  { what: 'a file of four bytes', files: withWeights(weights.slice(0, 4)), reason: /has 4 bytes; a header length needs 8/ },
  {
    what: 'bytes after the end',
    files: withWeights(Uint8Array.from([...weights, 1])),
    reason: /1 bytes that belong to no tensor/,
  },
  {
    what: 'a layer that is missing',
    files: withWeights(buildAdapter({ layers: [0] }).weights),
    reason: /layers\.1\.self_attn\.q_proj is targeted, but lora_A and lora_B are missing/,
  },
  { what: 'a rank that the config does not say', files: withConfig({ r: 3 }), reason: /shape \[2, 4\] instead of \[3, 4\]/ },
  { what: 'a rank above the limit', files: withConfig({ r: 512 }), reason: /512/ },
  { what: 'DoRA', files: withConfig({ use_dora: true }), reason: /DoRA/ },
  { what: 'saved modules', files: withConfig({ modules_to_save: ['lm_head'] }), reason: /modules_to_save|fully trained/ },
  {
    what: 'a tensor that stands there twice',
    files: withWeights(
      rawSafetensors(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        new Uint8Array(8),
      ),
    ),
    reason: /the key "a" stands there twice/,
  },
  {
    what: 'a tensor under two names',
    files: withWeights(
      withTensor(tensors, firstA, (tensor) => [tensor, { ...tensor, name: tensor.name.replace('.weight', '.default.weight') }]),
    ),
    reason: /repeats lora_A of model\.layers\.0\.self_attn\.q_proj/,
  },
  { what: 'a config that is no JSON', files: drop({ 'adapter_config.json': text('{"r": 2,') }), reason: /not strict JSON/ },
  { what: 'a config that is too large', files: drop({ 'adapter_config.json': text(' '.repeat(70_000)) }), reason: /70000 bytes/ },
  {
    what: 'a tensor with no place',
    files: withWeights(safetensors([...tensors, f32Tensor('base_model.model.model.layers.0.lora_Z', [1], [1])])),
    reason: /the name has no place in the base model/,
  },
  {
    what: 'tensors of whole numbers',
    files: withWeights(withTensor(tensors, firstA, (tensor) => [{ ...tensor, dtype: 'I32' }])),
    reason: /has dtype I32/,
  },
  { what: 'a wish that is none', files: drop({ 'quiver.json': jsonBytes({ alais: 'stable' }) }), reason: /quiver\.json.*alais/ },
]

/** The files in the order given; `_READY` is none of them unless it is said. */
export async function putDrop(store: ObjectStore, name: string, files: DropFiles): Promise<void> {
  for (const [file, bytes] of Object.entries(files)) await store.put(`drop/${name}/${file}`, bytes)
}

export async function readJsonObject(store: ObjectStore, key: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(new TextDecoder().decode((await store.get(key)).bytes))
  } catch (error) {
    if (error instanceof ServingError && error.code === 'not_found') return undefined
    throw error
  }
}

export async function keysBelow(store: ObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix)) keys.push(key)
  return keys
}
