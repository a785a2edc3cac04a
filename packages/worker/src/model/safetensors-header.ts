import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { parseSafetensorsHeader, SAFETENSORS_PREFIX_BYTES, safetensorsHeaderBytes } from '@quiver/cache/format'
import { ServingError } from '@quiver/protocol'

/** One tensor of an open safetensors file. */
export interface PlacedEntry {
  readonly name: string
  /** As written in the file: F32, F16, BF16, … */
  readonly dtype: string
  readonly shape: readonly number[]
  /** Where its bytes start in the file, and how many there are. */
  readonly offset: number
  readonly bytes: number
}

export interface SafetensorsHeader {
  readonly entries: readonly PlacedEntry[]
  /** sha256 hex of the header with its length. */
  readonly sha256: string
}

/** The format's own limit: base models with many small tensors have headers beyond what an adapter's may have. */
const MAX_HEADER_BYTES = 100 * 1024 * 1024

/**
 * Reads and checks the header alone, by the rules that adapters are read by, so that a file of many gigabytes costs a few reads.
 * @throws ServingError `invalid_request` naming the file and the tensor at fault
 */
export async function readSafetensorsHeader(handle: FileHandle, path: string): Promise<SafetensorsHeader> {
  try {
    const { size } = await handle.stat()
    const what = 'the file'
    const prefix = await readBytes(handle, 0, Math.min(SAFETENSORS_PREFIX_BYTES, size))
    const length = safetensorsHeaderBytes(prefix, { fileBytes: size, maxBytes: MAX_HEADER_BYTES, what })
    const header = await readBytes(handle, SAFETENSORS_PREFIX_BYTES, length)
    const dataStart = SAFETENSORS_PREFIX_BYTES + length
    const entries = parseSafetensorsHeader(header, { tensorBytes: size - dataStart, what })
    return {
      entries: entries.map(({ name, dtype, shape, begin, end }) => ({
        name,
        dtype,
        shape,
        offset: dataStart + begin,
        bytes: end - begin,
      })),
      sha256: createHash('sha256').update(prefix).update(header).digest('hex'),
    }
  } catch (error) {
    if (!(error instanceof ServingError)) throw error
    throw new ServingError('invalid_request', `${path} is not a readable safetensors file: ${error.message}`)
  }
}

async function readBytes(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  const { bytesRead } = await handle.read(bytes, 0, length, position)
  if (bytesRead < length) throw new ServingError('invalid_request', 'it became shorter while it was read')
  return bytes
}
