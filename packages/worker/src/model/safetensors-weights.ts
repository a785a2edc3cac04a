import { createHash } from 'node:crypto'
import { type FileHandle, open, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { copyFloat32, widenBfloat16, widenFloat16 } from './half-floats.ts'
import type { ModelWeights } from './model-spec.ts'
import { type PlacedEntry, readSafetensorsHeader } from './safetensors-header.ts'

export const singleWeightsFile = 'model.safetensors'
export const shardIndexFile = 'model.safetensors.index.json'

/** Bytes read from the file at a time: bounds the memory that a read takes beside its result. */
const CHUNK_BYTES = 4 * 1024 * 1024
const MAX_SHARDS = 1024
const MAX_INDEX_BYTES = 64 * 1024 * 1024

interface Reading {
  readonly bytesPerElement: number
  readonly widen: (source: Uint8Array, target: Float32Array) => void
}

const readings: Readonly<Record<string, Reading>> = {
  F32: { bytesPerElement: 4, widen: copyFloat32 },
  F16: { bytesPerElement: 2, widen: widenFloat16 },
  BF16: { bytesPerElement: 2, widen: widenBfloat16 },
}

interface PlacedTensor extends PlacedEntry {
  readonly handle: FileHandle
  readonly file: string
}

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) })

/** `weight_map` of a shard index: tensor → file name. @throws ServingError `invalid_request` when it is damaged or a shard lies elsewhere */
export function parseShardIndex(text: string, source: string): ReadonlyMap<string, string> {
  const refuse = (what: string): ServingError => new ServingError('invalid_request', `${source}: ${what}`)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw refuse(`not JSON: ${cause instanceof Error ? cause.message : cause}`)
  }
  const parsed = indexSchema.safeParse(json)
  if (!parsed.success) throw refuse('weight_map is missing or is not a map from tensor to file')
  const shards = new Map(Object.entries(parsed.data.weight_map))
  for (const [tensor, file] of shards) {
    if (file !== path.basename(file) || file.includes('\\') || file.startsWith('.') || !file.endsWith('.safetensors')) {
      throw refuse(`tensor ${tensor} is in ${JSON.stringify(file)}, which is not a .safetensors file in the same folder`)
    }
  }
  const count = new Set(shards.values()).size
  if (count === 0 || count > MAX_SHARDS) throw refuse(`it names ${count} files; 1 to ${MAX_SHARDS} are possible`)
  return shards
}

/** The weights of a Hugging Face folder, from `model.safetensors` or from the shards that its index names. */
export class SafetensorsWeights implements ModelWeights {
  readonly #handles: readonly FileHandle[]
  readonly #tensors: ReadonlyMap<string, PlacedTensor>
  readonly #folder: string
  /** sha256 hex over the names and headers of all files. */
  readonly headersSha256: string

  private constructor(folder: string, opened: OpenedFiles) {
    this.#folder = folder
    this.#handles = opened.handles
    this.#tensors = opened.tensors
    this.headersSha256 = opened.headersSha256
  }

  /** @throws ServingError `not_found` when there are no weights, `invalid_request` on a damaged file or a missing shard */
  static async open(folder: string): Promise<SafetensorsWeights> {
    const index = await readIndex(folder)
    const files = index === undefined ? [singleWeightsFile] : [...new Set(index.values())].toSorted()
    return new SafetensorsWeights(folder, await openFiles(folder, files, index))
  }

  /** Name → shape of every tensor. */
  shapes(): Map<string, readonly number[]> {
    return new Map([...this.#tensors].map(([name, { shape }]) => [name, shape]))
  }

  has(name: string): boolean {
    return this.#tensors.has(name)
  }

  async read(name: string): Promise<Float32Array<ArrayBuffer>> {
    const tensor = this.#tensors.get(name)
    if (tensor === undefined) throw new ServingError('not_found', `${this.#folder} has no tensor ${name}`)
    const { bytesPerElement, widen } = readingOf(tensor, `${path.join(this.#folder, tensor.file)}: tensor ${name}`)
    const values = new Float32Array(tensor.bytes / bytesPerElement)
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, tensor.bytes))
    for (let at = 0; at < tensor.bytes; ) {
      const wanted = Math.min(chunk.length, tensor.bytes - at)
      let filled = 0
      while (filled < wanted) {
        const { bytesRead } = await tensor.handle.read(chunk, filled, wanted - filled, tensor.offset + at + filled)
        if (bytesRead === 0)
          throw new ServingError('invalid_request', `${tensor.file}: tensor ${name} could not be read: the file was cut short`)
        filled += bytesRead
      }
      widen(chunk.subarray(0, wanted), values.subarray(at / bytesPerElement, (at + wanted) / bytesPerElement))
      at += wanted
    }
    return values
  }

  async close(): Promise<void> {
    for (const handle of this.#handles) await handle.close()
  }
}

function readingOf(tensor: PlacedEntry, what: string): Reading {
  const reading = Object.hasOwn(readings, tensor.dtype) ? readings[tensor.dtype] : undefined
  if (reading === undefined) {
    throw new ServingError(
      'invalid_request',
      `${what} has dtype ${tensor.dtype}, which is not supported; supported: ${Object.keys(readings).join(', ')}`,
    )
  }
  return reading
}

/** `model.safetensors` wins where both are there, as in transformers. */
async function readIndex(folder: string): Promise<ReadonlyMap<string, string> | undefined> {
  if (await isFile(path.join(folder, singleWeightsFile))) return undefined
  const file = path.join(folder, shardIndexFile)
  if (!(await isFile(file))) {
    throw new ServingError('not_found', `${folder} has no weights: neither ${singleWeightsFile} nor ${shardIndexFile} is there`)
  }
  if ((await stat(file)).size > MAX_INDEX_BYTES)
    throw new ServingError('invalid_request', `${file} is larger than ${MAX_INDEX_BYTES} bytes`)
  return parseShardIndex(await readFile(file, 'utf8'), file)
}

async function isFile(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isFile() ?? false
}

interface OpenedFiles {
  readonly handles: readonly FileHandle[]
  readonly tensors: ReadonlyMap<string, PlacedTensor>
  readonly headersSha256: string
}

async function openFiles(
  folder: string,
  files: readonly string[],
  index: ReadonlyMap<string, string> | undefined,
): Promise<OpenedFiles> {
  const handles: FileHandle[] = []
  const tensors = new Map<string, PlacedTensor>()
  const hash = createHash('sha256')
  try {
    for (const file of files) {
      const location = path.join(folder, file)
      const handle = await open(location, 'r').catch((cause: unknown) => {
        throw new ServingError(
          'invalid_request',
          `${location}, which ${index === undefined ? 'holds the weights' : `${shardIndexFile} names`}, cannot be opened`,
          {},
          { cause },
        )
      })
      handles.push(handle)
      const header = await readSafetensorsHeader(handle, location)
      hash.update(`${file}\0${header.sha256}\n`)
      for (const entry of header.entries) {
        const { name } = entry
        if (tensors.has(name))
          throw new ServingError('invalid_request', `tensor ${name} is both in ${location} and in ${tensors.get(name)?.file}`)
        readingOf(entry, `${location}: tensor ${name}`)
        tensors.set(name, { ...entry, handle, file })
      }
    }
    checkIndex(folder, tensors, index)
    return { handles, tensors, headersSha256: hash.digest('hex') }
  } catch (error) {
    for (const handle of handles) await handle.close()
    throw error
  }
}

function checkIndex(
  folder: string,
  tensors: ReadonlyMap<string, PlacedTensor>,
  index: ReadonlyMap<string, string> | undefined,
): void {
  for (const [name, file] of index ?? []) {
    const found = tensors.get(name)?.file
    if (found !== file) {
      throw new ServingError(
        'invalid_request',
        `${path.join(folder, shardIndexFile)}: tensor ${name} is not in ${file}${found === undefined ? '' : ` but in ${found}`}`,
      )
    }
  }
}
