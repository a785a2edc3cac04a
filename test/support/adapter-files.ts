/** Builds safetensors files and PEFT adapters from plain values, right or wrong on purpose. */
import { type BaseLayout, moduleParent } from '@quiver/protocol'

export interface BuiltTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

const encoder = new TextEncoder()

/** A file with this very header text and data. */
export function rawSafetensors(header: string | Uint8Array, data: Uint8Array = new Uint8Array()): Uint8Array<ArrayBuffer> {
  const headerBytes = typeof header === 'string' ? encoder.encode(header) : header
  const file = new Uint8Array(new ArrayBuffer(8 + headerBytes.length + data.length))
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes.length), true)
  file.set(headerBytes, 8)
  file.set(data, 8 + headerBytes.length)
  return file
}

/** A sound file with these tensors one after another; the header padded so that data begins at a multiple of 8. */
export function safetensors(tensors: readonly BuiltTensor[], metadata?: Record<string, string>): Uint8Array<ArrayBuffer> {
  let offset = 0
  // Put together as text: as an object it would lose a tensor named __proto__.
  const members = metadata === undefined ? [] : [`"__metadata__":${JSON.stringify(metadata)}`]
  for (const { name, dtype, shape, bytes } of tensors) {
    const entry = { dtype, shape, data_offsets: [offset, offset + bytes.length] }
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`)
    offset += bytes.length
  }
  const data = new Uint8Array(offset)
  let at = 0
  for (const { bytes } of tensors) {
    data.set(bytes, at)
    at += bytes.length
  }
  const text = `{${members.join(',')}}`
  return rawSafetensors(text.padEnd(Math.ceil(text.length / 8) * 8), data)
}

export function f32Tensor(name: string, shape: readonly number[], values: readonly number[] | Float32Array): BuiltTensor {
  const floats = Float32Array.from(values)
  return { name, dtype: 'F32', shape, bytes: new Uint8Array(floats.buffer) }
}

/** A base model of two layers that is small enough to write adapters for by hand. */
export const tinyLayout: BaseLayout = {
  baseModel: 'tiny/base',
  hiddenSize: 4,
  layerCount: 2,
  modules: [
    { name: 'q_proj', inFeatures: 4, outFeatures: 4 },
    { name: 'k_proj', inFeatures: 4, outFeatures: 2 },
    { name: 'v_proj', inFeatures: 4, outFeatures: 2 },
    { name: 'o_proj', inFeatures: 4, outFeatures: 4 },
    { name: 'gate_proj', inFeatures: 4, outFeatures: 6 },
    { name: 'up_proj', inFeatures: 4, outFeatures: 6 },
    { name: 'down_proj', inFeatures: 6, outFeatures: 4 },
  ],
}

export interface AdapterOptions {
  readonly layout?: BaseLayout
  readonly rank?: number
  readonly alpha?: number
  readonly targets?: readonly string[]
  readonly layers?: readonly number[]
  /** The value of element i of a tensor. */
  readonly value?: (tensor: string, i: number) => number
  /** Added to, or instead of, what the options say. */
  readonly config?: Record<string, unknown>
  /** Rank of one module, where it is not `rank`. */
  readonly rankOf?: (layer: number, module: string) => number
}

export interface BuiltAdapter {
  readonly config: Uint8Array
  readonly configFields: Record<string, unknown>
  readonly tensors: readonly BuiltTensor[]
  readonly weights: Uint8Array<ArrayBuffer>
}

/** The name that PEFT gives a tensor. */
export function tensorName(layer: number, module: string, side: 'A' | 'B'): string {
  const parent = Object.hasOwn(moduleParent, module) ? moduleParent[module as keyof typeof moduleParent] : 'self_attn'
  return `base_model.model.model.layers.${layer}.${parent}.${module}.lora_${side}.weight`
}

/** A sound adapter for `layout` (the tiny one unless told otherwise). */
export function buildAdapter(options: AdapterOptions = {}): BuiltAdapter {
  const { layout = tinyLayout, rank = 2, alpha = 4, targets = ['q_proj', 'v_proj'], value = defaultValue } = options
  const layers = options.layers ?? [...Array(layout.layerCount).keys()]
  const tensors = layers.flatMap((layer) =>
    layout.modules
      .filter(({ name }) => targets.includes(name))
      .flatMap(({ name, inFeatures, outFeatures }) => {
        const r = options.rankOf?.(layer, name) ?? rank
        const make = (side: 'A' | 'B', shape: readonly [number, number]): BuiltTensor => {
          const tensor = tensorName(layer, name, side)
          return f32Tensor(
            tensor,
            shape,
            Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => value(tensor, i)),
          )
        }
        return [make('A', [r, inFeatures]), make('B', [outFeatures, r])]
      }),
  )
  const configFields = {
    peft_type: 'LORA',
    base_model_name_or_path: layout.baseModel,
    r: rank,
    lora_alpha: alpha,
    target_modules: targets,
    ...options.config,
  }
  return { config: jsonBytes(configFields), configFields, tensors, weights: safetensors(tensors) }
}

export function jsonBytes(value: unknown): Uint8Array {
  return encoder.encode(typeof value === 'string' ? value : JSON.stringify(value))
}

/** Different for every tensor and element, and exact in binary16. */
function defaultValue(tensor: string, i: number): number {
  return ((tensor.length * 7 + tensor.charCodeAt(30) + i * 3) % 64) / 16 - 2
}
