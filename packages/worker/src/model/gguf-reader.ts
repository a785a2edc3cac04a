/**
 * Header of a GGUF file (versions 2 and 3, little-endian): magic, counts, typed metadata, tensor infos. Every count is
 * checked against the bytes that are there before anything is allocated for it, and every tensor against the file's size,
 * so that a damaged or hostile file is refused with the field's name instead of being read as something else.
 *
 * Layout after the ggml project's `docs/gguf.md`: "GGUF", u32 version, u64 tensor count, u64 metadata count, the metadata
 * (string key, u32 type, value), the tensor infos (string name, u32 dimensions, u64 per dimension innermost first, u32 type,
 * u64 offset), padding to `general.alignment`, tensor data.
 */
import type { FileHandle } from 'node:fs/promises'
import { damaged, HeaderCursor, NeedMoreBytes } from './gguf-cursor.ts'
import { GgufMetadata, type GgufValue } from './gguf-metadata.ts'
import { type GgufType, ggufTypes } from './gguf-types.ts'

export interface GgufTensor {
  readonly name: string
  readonly type: GgufType
  /** Outermost dimension first: a matrix is [rows, columns]. */
  readonly shape: readonly number[]
  readonly elements: number
  /** Where the data starts in the file, and how long it is. */
  readonly offset: number
  readonly bytes: number
}

export interface GgufHeader {
  readonly path: string
  readonly version: number
  readonly metadata: GgufMetadata
  readonly tensors: ReadonlyMap<string, GgufTensor>
  /** Size of the whole file. */
  readonly fileBytes: number
  /** sha256 hex over the header, from the magic to the last tensor info. */
  readonly headerSha256: string
}

const MAX_HEADER_BYTES = 256 * 1024 * 1024
const FIRST_READ_BYTES = 4 * 1024 * 1024
const MAX_METADATA = 65_536
const MAX_TENSORS = 65_536
const MAX_NAME_BYTES = 65_535
const MAX_DIMENSIONS = 4
const DEFAULT_ALIGNMENT = 32
const BIG_ENDIAN_VERSIONS = [0x02000000, 0x03000000]

/**
 * Reads and checks the header of an open file.
 * @throws ServingError `invalid_request` naming the file and the damaged field
 */
export async function readGgufHeader(handle: FileHandle, path: string): Promise<GgufHeader> {
  const { size } = await handle.stat()
  let length = Math.min(size, FIRST_READ_BYTES)
  for (;;) {
    const bytes = await readStart(handle, length, path)
    try {
      return parseHeader(new HeaderCursor(bytes, size, path))
    } catch (error) {
      if (!(error instanceof NeedMoreBytes)) throw error
      if (length >= MAX_HEADER_BYTES) throw damaged(path, `the header is longer than ${MAX_HEADER_BYTES} bytes`)
      length = Math.min(size, length * 4, MAX_HEADER_BYTES)
    }
  }
}

async function readStart(handle: FileHandle, length: number, path: string): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, filled)
    if (bytesRead === 0) throw damaged(path, `the file became shorter while it was read: ${filled} of ${length} bytes`)
    filled += bytesRead
  }
  return buffer
}

function parseHeader(cursor: HeaderCursor): GgufHeader {
  const { path } = cursor
  const magic = cursor.u32('the magic')
  if (magic !== 0x46554747) throw damaged(path, 'it does not start with "GGUF"')
  const version = cursor.u32('the version')
  if (BIG_ENDIAN_VERSIONS.includes(version)) throw damaged(path, 'it is big-endian, which is not supported')
  if (version !== 2 && version !== 3) throw damaged(path, `version ${version} is not supported; supported: 2 and 3`)
  const tensorCount = cursor.count('the tensor count', 24, MAX_TENSORS)
  const metadataCount = cursor.count('the metadata count', 13, MAX_METADATA)
  const metadata = new GgufMetadata(path, parseMetadata(cursor, metadataCount))
  const alignment = parseAlignment(metadata, path)
  const infos = Array.from({ length: tensorCount }, (_, index) => parseTensorInfo(cursor, `tensor ${index}`))
  const headerSha256 = cursor.sha256()
  const dataStart = Math.ceil(cursor.position / alignment) * alignment
  const tensors = placeTensors(infos, { path, dataStart, alignment, fileBytes: cursor.fileBytes })
  return { path, version, metadata, tensors, fileBytes: cursor.fileBytes, headerSha256 }
}

function parseAlignment(metadata: GgufMetadata, path: string): number {
  const alignment = metadata.count('general.alignment') ?? DEFAULT_ALIGNMENT
  const powerOfTwo = alignment >= 1 && alignment <= 65_536 && Number.isInteger(Math.log2(alignment))
  if (!powerOfTwo) throw damaged(path, `general.alignment is ${alignment}; it must be a power of two up to 65536`)
  return alignment
}

function parseMetadata(cursor: HeaderCursor, count: number): Map<string, GgufValue> {
  const values = new Map<string, GgufValue>()
  for (let index = 0; index < count; index++) {
    const key = cursor.text(`metadata key ${index}`, MAX_NAME_BYTES)
    if (values.has(key)) throw damaged(cursor.path, `metadata ${key} is there twice`)
    values.set(key, parseValue(cursor, cursor.u32(`the type of metadata ${key}`), `metadata ${key}`))
  }
  return values
}

const ARRAY_TYPE = 9

function parseValue(cursor: HeaderCursor, type: number, what: string): GgufValue {
  switch (type) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 10:
    case 11:
      return { kind: 'integer', value: readInteger(cursor, type, what) }
    case 6:
      return { kind: 'float', value: cursor.f32(what) }
    case 12:
      return { kind: 'float', value: cursor.f64(what) }
    case 7:
      return { kind: 'boolean', value: readBoolean(cursor, what) }
    case 8:
      return { kind: 'string', value: cursor.text(what, MAX_HEADER_BYTES) }
    case ARRAY_TYPE:
      return parseArray(cursor, what)
    default:
      throw damaged(cursor.path, `${what} has the unknown type ${type}`)
  }
}

function readInteger(cursor: HeaderCursor, type: number, what: string): bigint {
  if (type === 10) return cursor.u64(what)
  if (type === 11) return cursor.i64(what)
  const readers = [cursor.u8, cursor.i8, cursor.u16, cursor.i16, cursor.u32, cursor.i32]
  const read = readers[type]
  if (read === undefined) throw damaged(cursor.path, `${what} has the unknown type ${type}`)
  return BigInt(read(what))
}

function readBoolean(cursor: HeaderCursor, what: string): boolean {
  const byte = cursor.u8(what)
  if (byte > 1) throw damaged(cursor.path, `${what} is a boolean with the value ${byte}`)
  return byte === 1
}

/** Least bytes that one array element of each type takes. */
const elementBytes: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  8: 8,
  10: 8,
  11: 8,
  12: 8,
}

function parseArray(cursor: HeaderCursor, what: string): GgufValue {
  const type = cursor.u32(`the element type of ${what}`)
  const least = elementBytes[type]
  if (least === undefined) {
    throw damaged(cursor.path, `${what} is an array of ${type === ARRAY_TYPE ? 'arrays' : `the unknown type ${type}`}`)
  }
  const length = cursor.count(`the length of ${what}`, least, MAX_HEADER_BYTES)
  const fill = <T>(read: () => T): T[] => {
    const values: T[] = []
    for (let index = 0; index < length; index++) values.push(read())
    return values
  }
  if (type === 8) return { kind: 'strings', value: fill(() => cursor.text(what, MAX_HEADER_BYTES)) }
  if (type === 7) return { kind: 'booleans', value: fill(() => readBoolean(cursor, what)) }
  if (type === 6) return { kind: 'numbers', value: fill(() => cursor.f32(what)) }
  if (type === 12) return { kind: 'numbers', value: fill(() => cursor.f64(what)) }
  return { kind: 'numbers', value: fill(() => Number(readInteger(cursor, type, what))) }
}

interface TensorInfo {
  readonly name: string
  readonly type: GgufType
  readonly shape: readonly number[]
  readonly elements: number
  readonly relativeOffset: number
  readonly bytes: number
}

function parseTensorInfo(cursor: HeaderCursor, which: string): TensorInfo {
  const name = cursor.text(`the name of ${which}`, MAX_NAME_BYTES)
  const what = `tensor ${name}`
  const dimensions = cursor.u32(`the dimension count of ${what}`)
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw damaged(cursor.path, `${what} has ${dimensions} dimensions; 1 to ${MAX_DIMENSIONS} are possible`)
  }
  const innermostFirst: number[] = []
  let elements = 1n
  for (let index = 0; index < dimensions; index++) {
    const dimension = cursor.u64(`dimension ${index} of ${what}`)
    elements *= dimension
    if (dimension === 0n || elements > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw damaged(cursor.path, `dimension ${index} of ${what} is ${dimension}`)
    }
    innermostFirst.push(Number(dimension))
  }
  const typeNumber = cursor.u32(`the type of ${what}`)
  const type = ggufTypes.get(typeNumber)
  if (type === undefined) throw damaged(cursor.path, `${what} has the unknown type number ${typeNumber}`)
  const columns = innermostFirst[0] ?? 0
  if (columns % type.blockElements !== 0) {
    throw damaged(cursor.path, `${what} has rows of ${columns}, which ${type.name} blocks of ${type.blockElements} do not fill`)
  }
  const relativeOffset = cursor.u64(`the offset of ${what}`)
  if (relativeOffset > BigInt(cursor.fileBytes)) {
    throw damaged(cursor.path, `${what} starts at ${relativeOffset}, past the end of the file`)
  }
  const bytes = (Number(elements) / type.blockElements) * type.blockBytes
  const shape = innermostFirst.toReversed()
  return { name, type, shape, elements: Number(elements), relativeOffset: Number(relativeOffset), bytes }
}

interface DataArea {
  readonly path: string
  readonly dataStart: number
  readonly alignment: number
  readonly fileBytes: number
}

/** Turns relative offsets into places in the file; refuses what is misaligned, overlaps, repeats a name or leaves the file. */
function placeTensors(infos: readonly TensorInfo[], area: DataArea): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>()
  let previous: TensorInfo | undefined
  for (const tensor of infos.toSorted((a, b) => a.relativeOffset - b.relativeOffset)) {
    const what = `tensor ${tensor.name}`
    if (tensors.has(tensor.name)) throw damaged(area.path, `${what} is there twice`)
    if (tensor.relativeOffset % area.alignment !== 0) {
      throw damaged(area.path, `${what} starts at ${tensor.relativeOffset}, not a multiple of the alignment ${area.alignment}`)
    }
    if (previous !== undefined && previous.relativeOffset + previous.bytes > tensor.relativeOffset) {
      throw damaged(area.path, `${what} overlaps tensor ${previous.name}`)
    }
    const offset = area.dataStart + tensor.relativeOffset
    if (offset + tensor.bytes > area.fileBytes) {
      throw damaged(
        area.path,
        `${what} ends at byte ${offset + tensor.bytes}, but the file has only ${area.fileBytes}: it is cut short`,
      )
    }
    const { name, type, shape, elements, bytes } = tensor
    tensors.set(name, { name, type, shape, elements, offset, bytes })
    previous = tensor
  }
  return tensors
}
