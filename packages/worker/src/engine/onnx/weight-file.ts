import { type FileHandle, open } from 'node:fs/promises'
import type { ExternalTensor } from './onnx-model.ts'
import type { ElementType, TensorData } from './ort.ts'

/** Tensors start at multiples of this, so that a mapped file can be used in place. */
const ALIGNMENT = 4096

/** Writes weights one after another into the external data file of a model. */
export class WeightFile {
  readonly #file: FileHandle
  #offset = 0

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async create(path: string): Promise<WeightFile> {
    return new WeightFile(await open(path, 'wx'))
  }

  async append(type: ElementType, shape: readonly number[], values: TensorData): Promise<ExternalTensor> {
    const offset = Math.ceil(this.#offset / ALIGNMENT) * ALIGNMENT
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    this.#offset = offset + bytes.length
    for (let written = 0; written < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, written, bytes.length - written, offset + written)
      written += bytesWritten
    }
    return { type, shape, offset, bytes: bytes.length }
  }

  /** Makes everything durable. */
  async finish(): Promise<void> {
    await this.#file.sync()
    await this.#file.close()
  }

  async abort(): Promise<void> {
    await this.#file.close()
  }
}
