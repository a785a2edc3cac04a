/** Adapters of random weights on all modules of all layers: packed ones for an engine, PEFT folders for a server. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { PackedAdapter, PackedDtype } from '@quiver/cache'
import { type AdapterDigest, type BaseLayout, moduleParent, parseAdapterDigest } from '@quiver/protocol'
import { draftPacked } from '../../packages/cache/src/format/packed-file.ts'
import type { RandomWeights } from './random-weights.ts'

export interface AdapterShape {
  readonly layout: BaseLayout
  readonly rank: number
}

/** The rank of everything that is measured, unless it says otherwise. */
export const BENCH_RANK = 16

/** A packed adapter and the file that the disk tier keeps of it. Random content has no digest of its own: `name` stands for it. */
export async function randomPacked(
  name: string,
  { layout, rank }: AdapterShape,
  dtype: PackedDtype,
  weights: RandomWeights,
): Promise<{ digest: AdapterDigest; file: Uint8Array<ArrayBuffer>; adapter: PackedAdapter }> {
  const digest = parseAdapterDigest(createHash('sha256').update(name).digest('hex'))
  const shapes = layers(layout).flatMap((layer) => layout.modules.map((module) => ({ layer, module, rank })))
  const { file, adapter, seal } = draftPacked({ digest, layout, dtype }, shapes)
  for (const { a, b } of adapter.modules) {
    weights.fill(a)
    weights.fill(b)
  }
  await seal()
  return { digest, file, adapter }
}

/** Writes `adapter_config.json` and `adapter_model.safetensors` (F16) as PEFT does. */
export async function writePeftFolder(folder: string, shape: AdapterShape, weights: RandomWeights): Promise<void> {
  const files = peftFiles(shape, weights)
  await mkdir(folder, { recursive: true })
  await writeFile(path.join(folder, 'adapter_config.json'), files.config)
  await writeFile(path.join(folder, 'adapter_model.safetensors'), files.weights)
}

/** The two files of `writePeftFolder`, in memory. */
export function peftFiles(
  shape: AdapterShape,
  weights: RandomWeights,
): { readonly config: Uint8Array; readonly weights: Uint8Array<ArrayBuffer> } {
  return { config: Buffer.from(JSON.stringify(peftConfig(shape), undefined, 2)), weights: peftWeights(shape, weights) }
}

function peftConfig({ layout, rank }: AdapterShape): object {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: layout.baseModel,
    r: rank,
    lora_alpha: rank,
    target_modules: layout.modules.map(({ name }) => name),
    bias: 'none',
  }
}

/** The header's length in 8 bytes, the header, then the tensors in its order. */
function peftWeights({ layout, rank }: AdapterShape, weights: RandomWeights): Uint8Array<ArrayBuffer> {
  const tensors = layers(layout).flatMap((layer) =>
    layout.modules.flatMap(({ name, inFeatures, outFeatures }) => {
      const stem = `base_model.model.model.layers.${layer}.${moduleParent[name]}.${name}`
      return [
        { name: `${stem}.lora_A.weight`, shape: [rank, inFeatures] as const },
        { name: `${stem}.lora_B.weight`, shape: [outFeatures, rank] as const },
      ]
    }),
  )
  let elements = 0
  const header: Record<string, object> = {}
  for (const { name, shape } of tensors) {
    const length = shape[0] * shape[1]
    header[name] = { dtype: 'F16', shape, data_offsets: [elements * 2, (elements + length) * 2] }
    elements += length
  }
  const text = JSON.stringify(header)
  const headerBytes = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
  const file = new Uint8Array(8 + headerBytes.length + elements * 2)
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes.length), true)
  file.set(headerBytes, 8)
  weights.fill(new Uint16Array(file.buffer, 8 + headerBytes.length))
  return file
}

function layers({ layerCount }: BaseLayout): number[] {
  return Array.from({ length: layerCount }, (_, layer) => layer)
}
