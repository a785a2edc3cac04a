import type { Dtype } from '@quiver/protocol'
import type { ModelWeights } from '../../model/model-spec.ts'
import { activations, activationType } from './activation-type.ts'
import type { Attribute, OnnxModelBuilder } from './onnx-model.ts'
import type { TensorData } from './ort.ts'
import { packedShape, packProduct } from './packed-product.ts'
import type { ProductForm } from './product-form.ts'
import { BLOCK, quantize4, quantize8 } from './quantize.ts'
import type { WeightFile } from './weight-file.ts'

interface Parts {
  readonly model: OnnxModelBuilder
  readonly weights: ModelWeights
  readonly file: WeightFile
  /** What products are computed in. */
  readonly dtype: Dtype
  /** What computes products with 8-bit weights. */
  readonly products: ProductForm
}

/** The weights of a graph: read from the model's own files, and put into the graph's in the element type that it computes with. */
export class GraphWeights {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async read(name: string): Promise<Float32Array<ArrayBuffer>> {
    return await this.#parts.weights.read(name)
  }

  /** @returns the weight's name in the graph */
  async put(name: string, type: 'f32' | 'f16' | 'bf16' | 'u8', shape: readonly number[], values: TensorData): Promise<string> {
    return this.#parts.model.weight(name, await this.#parts.file.append(type, shape, values))
  }

  /** Puts a weight into the graph in the type that its rows have. */
  async putActivations(name: string, shape: readonly number[], values: Float32Array<ArrayBuffer>): Promise<string> {
    const type = activationType(this.#parts.dtype)
    return await this.put(name, type, shape, activations(name, values, type))
  }

  /** Reads a vector and puts it into the graph. */
  async vector(name: string): Promise<string> {
    const values = await this.read(name)
    return await this.putActivations(name, [values.length], values)
  }

  /** x [rows, k] · weight [n, k]ᵀ. @returns the product's name, [rows, n] */
  async product(
    label: string,
    x: string,
    weight: Float32Array<ArrayBuffer>,
    k: number,
    dtype = this.#parts.dtype,
  ): Promise<string> {
    const { model } = this.#parts
    const n = weight.length / k
    if (dtype === 'fp32' || dtype === 'fp16' || dtype === 'bf16') {
      return model.node('MatMul', [x, await this.putActivations(`${label}.weight`, [k, n], transposed(weight, n, k))])
    }
    if (dtype === 'int8' && this.#parts.products === 'operator') {
      const packed = packProduct(label, weight, n, k)
      const weights = await this.put(`${label}.packed`, 'u8', packedShape(n, k), packed)
      return model.node('Product8', [x, weights], { in: k, out: n }, 'quiver')
    }
    const quantized = dtype === 'int8' ? quantize8(weight, n, k) : quantize4(weight, n, k)
    const blocks = Math.ceil(k / BLOCK)
    const inputs = [
      x,
      await this.put(`${label}.q`, 'u8', [n, blocks, (BLOCK * quantized.bits) / 8], quantized.packed),
      await this.put(`${label}.scales`, 'f32', [n, blocks], quantized.scales),
    ]
    if (quantized.zeroPoints) {
      inputs.push(await this.put(`${label}.zeros`, 'u8', [n, Math.ceil(blocks / 2)], quantized.zeroPoints))
    }
    const attributes: Record<string, Attribute> = { K: k, N: n, bits: quantized.bits, block_size: BLOCK, accuracy_level: 4 }
    return model.node('MatMulNBits', inputs, attributes, 'com.microsoft')
  }
}

/** One matrix of several with the same row length, one under the other. */
export function concatenated(parts: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer> {
  const [only] = parts
  if (only && parts.length === 1) return only
  const whole = new Float32Array(parts.reduce((length, part) => length + part.length, 0))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(matrix.length)
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      result[column * rows + row] = matrix[row * columns + column] as number
    }
  }
  return result
}
