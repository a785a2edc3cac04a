import { describe, expect, it } from 'vitest'
import { parseAdapterConfig } from '../../../packages/cache/src/format/adapter-config.ts'
import { adapterDigest } from '../../../packages/cache/src/format/digest.ts'
import { readF16 } from '../../../packages/cache/src/format/half.ts'
import { readAdapter } from '../../../packages/cache/src/format/inspect.ts'
import { packAdapter } from '../../../packages/cache/src/format/pack.ts'
import type { PackedArray, PackedDtype } from '../../../packages/cache/src/format/packed-adapter.ts'
import { readPacked } from '../../../packages/cache/src/format/packed-file.ts'
import {
  type AdapterOptions,
  type BuiltTensor,
  buildAdapter,
  jsonBytes,
  tinyLayout as layout,
  safetensors,
} from '../../support/adapter-files.ts'
import { refusal } from '../../support/refusal.ts'

const digestOf = (config: Uint8Array, weights: Uint8Array) => adapterDigest(parseAdapterConfig(config, 64), weights)

async function pack(options: AdapterOptions, dtype: PackedDtype, change = (tensor: BuiltTensor) => tensor) {
  const built = buildAdapter(options)
  const weights = safetensors(built.tensors.map(change))
  const digest = await digestOf(built.config, weights)
  const valid = await readAdapter({ config: built.config, weights }, layout, 64)
  return { digest, ...(await packAdapter(valid, { digest, layout, dtype })) }
}

function values(array: PackedArray | undefined): readonly number[] {
  if (array instanceof Float32Array) return Array.from(array)
  const floats = new Float32Array(array?.length ?? 0)
  if (array !== undefined) readF16(array, floats)
  return Array.from(floats)
}

/** The same numbers as 16-bit elements. */
function halved(dtype: 'F16' | 'BF16'): (tensor: BuiltTensor) => BuiltTensor {
  return (tensor) => {
    const floats = new Float32Array(tensor.bytes.slice().buffer)
    const words = Uint16Array.from(floats, (value) => {
      const bits = new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0
      if (dtype === 'BF16') return bits >>> 16
      // The values of the builder are normal in binary16.
      return value === 0 ? 0 : ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 255) - 112) << 10) | ((bits >>> 13) & 1023)
    })
    return { ...tensor, dtype, bytes: new Uint8Array(words.buffer) }
  }
}

describe('a packed adapter', () => {
  it.each(['f16', 'f32'] as const)('C05 has A as it was and Bᵀ times alpha/r, in %s', async (dtype) => {
    const { adapter } = await pack(
      { rank: 2, alpha: 6, targets: ['v_proj'], value: (tensor, i) => (tensor.includes('lora_A') ? i : i / 4) },
      dtype,
    )
    expect(adapter.modules.map(({ layer, module, rank }) => [layer, module, rank])).toEqual([
      [0, 'v_proj', 2],
      [1, 'v_proj', 2],
    ])
    expect(values(adapter.modules[0]?.a)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    // B is [out 2, rank 2] = [[0, 1/4], [2/4, 3/4]]; its transpose times 3.
    expect(values(adapter.modules[0]?.b)).toEqual([0, 1.5, 0.75, 2.25])
  })

  it('C05 has Bᵀ times alpha/√r with rsLoRA', async () => {
    const { adapter } = await pack(
      { rank: 4, alpha: 6, targets: ['k_proj'], value: () => 1, config: { use_rslora: true } },
      'f32',
    )
    expect(values(adapter.modules[0]?.b)).toEqual(Array(8).fill(3))
  })

  it('C04 has zeros for B when alpha is 0, so that it answers as the base model', async () => {
    const { adapter } = await pack({ alpha: 0 }, 'f16')
    expect(adapter.modules.flatMap(({ b }) => values(b)).every((value) => value === 0)).toBe(true)
  })

  it.each(['F16', 'BF16'] as const)('is the same from %s as from F32', async (dtype) => {
    // Few enough bits for both formats.
    const value = (tensor: string, i: number): number => ((tensor.length + i) % 16) / 8 - 1
    const wide = await pack({ value }, 'f16')
    const narrow = await pack({ value }, 'f16', halved(dtype))
    expect(narrow.adapter.modules.map(({ a, b }) => [values(a), values(b)])).toEqual(
      wide.adapter.modules.map(({ a, b }) => [values(a), values(b)]),
    )
  })

  it('has the rank of every module, and the largest as its own', async () => {
    const { adapter } = await pack(
      { rankOf: (layer) => (layer === 1 ? 5 : 2), config: { rank_pattern: { 'layers.1.*': 5 } } },
      'f16',
    )
    expect(adapter.rank).toBe(5)
    expect(adapter.modules.map(({ rank }) => rank)).toEqual([2, 2, 5, 5])
  })

  it.each([
    ['A', 70_000, 2, /lora_A\.weight" holds a value that is beyond ±65504/],
    ['B', 40_000, 8, /lora_B\.weight" holds a value that, times the scale 4, is beyond ±65504/],
  ] as const)('is refused when %s is too large for f16 after scaling', async (side, value, alpha, message) => {
    const error = await refusal(() => pack({ alpha, value: (tensor) => (tensor.includes(`lora_${side}`) ? value : 1) }, 'f16'))
    expect(error.code).toBe('adapter_invalid')
    expect(error.message).toMatch(message)
  })
})

describe('a packed file', () => {
  it.each(['f16', 'f32'] as const)('gives back the adapter as views over its own buffer, in %s', async (dtype) => {
    const { file, adapter, digest } = await pack({ rank: 3, targets: ['q_proj', 'down_proj'] }, dtype)
    const read = await readPacked(file, { digest, layout, dtype })
    expect(read).toEqual(adapter)
    expect(read.bytes).toBe(file.length)
    for (const { a, b } of read.modules) {
      expect(a.buffer).toBe(file.buffer)
      expect([a.byteOffset % 64, b.byteOffset % 64]).toEqual([0, 0])
    }
  })

  it('D04 is refused after a change of any single byte', async () => {
    const { file, digest } = await pack({ targets: ['k_proj'] }, 'f16')
    for (let at = 0; at < file.length; at++) {
      const copy = file.slice()
      copy[at] = (copy[at] ?? 0) ^ 0x10
      await expect(readPacked(copy, { digest, layout, dtype: 'f16' }), `byte ${at}`).rejects.toThrow(/damaged/)
    }
  })

  it('D04 is refused at every shorter length, and with a byte more', async () => {
    const { file, digest } = await pack({ targets: ['k_proj'] }, 'f16')
    for (let length = 0; length < file.length; length += 7) {
      await expect(readPacked(file.slice(0, length), { digest, layout, dtype: 'f16' }), `length ${length}`).rejects.toThrow(
        /damaged/,
      )
    }
    const longer = new Uint8Array(file.length + 1)
    longer.set(file)
    await expect(readPacked(longer, { digest, layout, dtype: 'f16' })).rejects.toThrow(/damaged/)
  })

  it('is refused for another digest, element type or base layout', async () => {
    const { file, digest } = await pack({}, 'f16')
    const other = await digestOf(jsonBytes(buildAdapter({ alpha: 5 }).configFields), buildAdapter().weights)
    await expect(readPacked(file, { digest: other, layout, dtype: 'f16' })).rejects.toThrow(/another adapter/)
    await expect(readPacked(file, { digest, layout, dtype: 'f32' })).rejects.toThrow(/another adapter/)
    await expect(readPacked(file, { digest, layout: { ...layout, layerCount: 3 }, dtype: 'f16' })).rejects.toThrow(
      /another adapter/,
    )
  })
})

describe('a digest', () => {
  const built = buildAdapter()
  const withFields = (fields: Record<string, unknown>) => digestOf(jsonBytes({ ...built.configFields, ...fields }), built.weights)

  it('does not change with the order of keys and targets, or with fields that have no effect', async () => {
    const same = {
      target_modules: ['v_proj', 'q_proj'],
      base_model_name_or_path: 'x',
      lora_dropout: 0.1,
      peft_version: '0.1',
      use_rslora: false,
      rank_pattern: {},
    }
    const reordered = Object.fromEntries(Object.entries({ ...built.configFields, ...same }).toReversed())
    expect(await digestOf(jsonBytes(reordered), built.weights)).toBe(await withFields({}))
  })

  it.each([
    { lora_alpha: 5 },
    { use_rslora: true },
    { rank_pattern: { x: 2 } },
    { alpha_pattern: { q_proj: 4 } },
    { exclude_modules: ['o_proj'] },
    { layers_to_transform: [0, 1] },
    { target_modules: ['q_proj'] },
  ])('changes with %j', async (fields) => {
    expect(await withFields(fields)).not.toBe(await withFields({}))
  })

  it('changes with the order of patterns, in which the first that matches counts', async () => {
    expect(await withFields({ rank_pattern: { a: 2, b: 2 } })).not.toBe(await withFields({ rank_pattern: { b: 2, a: 2 } }))
  })

  it('changes with one bit of the weights', async () => {
    const weights = built.weights.slice()
    weights[weights.length - 1] = (weights.at(-1) ?? 0) ^ 1
    expect(await digestOf(built.config, weights)).not.toBe(await withFields({}))
  })
})
