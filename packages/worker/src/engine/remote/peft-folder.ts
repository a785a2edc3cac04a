import { mkdir, open, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { nextTurn, type PackedAdapter, type PackedModule } from '@quiver/cache'
import { type BaseLayout, type LinearModule, moduleParent } from '@quiver/protocol'

/**
 * Writes an adapter as a folder that PEFT, vLLM and SGLang read. It says nothing that a reader could understand in two ways:
 * the scale is in B already (so alpha = r, and no rsLoRA), and every module has the adapter's largest rank, filled up with
 * zeros (so no patterns of ranks, which not every server reads). The folder appears whole or not at all.
 */
export async function writePeftFolder(folder: string, packed: PackedAdapter, layout: BaseLayout): Promise<void> {
  const unfinished = `${folder}.part`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(unfinished, { recursive: true })
  await writeFileOf(path.join(unfinished, 'adapter_config.json'), [JSON.stringify(configOf(packed, layout), undefined, 2)])
  await writeFileOf(path.join(unfinished, 'adapter_model.safetensors'), weightsOf(packed, layout))
  await rm(folder, { recursive: true, force: true })
  await rename(unfinished, folder)
}

function configOf({ rank, modules }: PackedAdapter, { baseModel }: BaseLayout) {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: baseModel,
    inference_mode: true,
    r: rank,
    lora_alpha: rank,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    use_rslora: false,
    use_dora: false,
    target_modules: [...new Set(modules.map(({ module }) => module))].toSorted(),
  }
}

interface Tensor {
  readonly name: string
  readonly shape: readonly [number, number]
  bytes(): Uint8Array
}

async function writeFileOf(file: string, pieces: Iterable<string | Uint8Array>): Promise<void> {
  const handle = await open(file, 'w')
  try {
    for (const piece of pieces) {
      await handle.writeFile(piece)
      await nextTurn()
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** The format of safetensors: the header's length in 8 bytes, the header, and the tensors one after another. */
function* weightsOf(packed: PackedAdapter, layout: BaseLayout): Iterable<Uint8Array> {
  const tensors = packed.modules.flatMap((module) => tensorsOf(module, packed, shapeOf(module, layout)))
  const width = packed.dtype === 'f16' ? 2 : 4
  let end = 0
  const entries = tensors.map(({ name, shape }) => {
    const begin = end
    end += shape[0] * shape[1] * width
    return [name, { dtype: packed.dtype === 'f16' ? 'F16' : 'F32', shape, data_offsets: [begin, end] }]
  })
  const json = JSON.stringify(Object.fromEntries(entries))
  // With blanks at its end, so that the tensors lie where they can be read in place.
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  yield length
  yield header
  for (const tensor of tensors) yield tensor.bytes()
}

function shapeOf({ module }: PackedModule, { modules }: BaseLayout): LinearModule {
  const shape = modules.find(({ name }) => name === module)
  if (shape === undefined) throw new Error(`the base model has no module ${module}`)
  return shape
}

function tensorsOf(packed: PackedModule, { rank }: PackedAdapter, { inFeatures, outFeatures }: LinearModule): readonly Tensor[] {
  const prefix = `base_model.model.model.layers.${packed.layer}.${moduleParent[packed.module]}.${packed.module}`
  return [
    { name: `${prefix}.lora_A.weight`, shape: [rank, inFeatures], bytes: () => bytesOf(filledUp(packed.a, rank * inFeatures)) },
    {
      name: `${prefix}.lora_B.weight`,
      shape: [outFeatures, rank],
      bytes: () => bytesOf(transposed(packed.b, { from: packed.rank, to: rank, columns: outFeatures })),
    },
  ]
}

function filledUp(values: PackedModule['a'], length: number): PackedModule['a'] {
  if (values.length === length) return values
  const filled = values instanceof Uint16Array ? new Uint16Array(length) : new Float32Array(length)
  filled.set(values)
  return filled
}

/** Bᵀ [from, columns] to B [columns, to]; the ranks beyond `from` stay zero. */
function transposed(
  values: PackedModule['b'],
  { from, to, columns }: { readonly from: number; readonly to: number; readonly columns: number },
): PackedModule['b'] {
  const target = values instanceof Uint16Array ? new Uint16Array(columns * to) : new Float32Array(columns * to)
  for (let r = 0; r < from; r++) {
    for (let column = 0; column < columns; column++) target[column * to + r] = values[r * columns + column] ?? 0
  }
  return target
}

function bytesOf(values: PackedModule['a']): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
