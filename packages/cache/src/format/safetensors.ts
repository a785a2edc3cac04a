/**
 * A strict reader of the safetensors format, for adapters and base models alike: 8 bytes little-endian header length N, N bytes of JSON, then the tensors'
 * bytes with no gap and nothing after them. Format: the README of huggingface/safetensors.
 *
 * Where its text and its reference reader (0.8) differ or leave room, this reader does the following:
 * - leading and trailing white space in the header is accepted, as the reference does;
 * - `__metadata__` must be an object of strings, not null;
 * - a repeated key anywhere is refused (the format says so; the reference lets the last one win);
 * - a field other than dtype, shape and data_offsets in an entry is refused, because a later format might give it meaning;
 * - the header of an adapter may have at most 4 MB instead of 100 MB: adapters have hundreds of tensors, not millions.
 */
import { adapterInvalid, quoted } from './adapter-problem.ts'
import {
  decodeUtf8,
  describeJson,
  integerOf,
  isJsonArray,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  readJson,
} from './json-reader.ts'

export const MAX_HEADER_BYTES = 4 * 1024 * 1024
/** Bytes before the header: its length. */
export const SAFETENSORS_PREFIX_BYTES = 8
const MAX_DIMENSIONS = 8

/** Bits of one element. All types of the format are known, so that a file is judged as the reference judges it. */
const dtypeBits = new Map([
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['BOOL', 8],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
])

/** One tensor as the file has it; `bytes` is a view of the file's buffer and may be unaligned. */
export interface TensorView {
  readonly name: string
  /** As written in the file, such as `F32`. */
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: Uint8Array<ArrayBuffer>
}

/**
 * Reads the header and cuts the file into tensors, without copying them.
 * @throws ServingError `adapter_invalid` naming the tensor, the offset or the number that is wrong
 */
export function readSafetensors(
  file: Uint8Array<ArrayBuffer>,
  what = 'adapter_model.safetensors',
): ReadonlyMap<string, TensorView> {
  const headerBytes = safetensorsHeaderBytes(file, { fileBytes: file.length, maxBytes: MAX_HEADER_BYTES, what })
  const start = SAFETENSORS_PREFIX_BYTES + headerBytes
  const tensorBytes = file.subarray(start)
  const entries = parseSafetensorsHeader(file.subarray(SAFETENSORS_PREFIX_BYTES, start), {
    tensorBytes: tensorBytes.length,
    what,
  })
  return new Map(
    entries.map(({ name, dtype, shape, begin, end }) => [name, { name, dtype, shape, bytes: tensorBytes.subarray(begin, end) }]),
  )
}

/**
 * How many bytes of header follow the prefix.
 * @param start the file's first bytes, 8 or more unless it has fewer
 * @throws ServingError `adapter_invalid` when that is more than the file or `maxBytes` holds
 */
export function safetensorsHeaderBytes(
  start: Uint8Array,
  { fileBytes, maxBytes, what }: { readonly fileBytes: number; readonly maxBytes: number; readonly what: string },
): number {
  if (start.length < SAFETENSORS_PREFIX_BYTES)
    throw adapterInvalid(`${what} has ${start.length} bytes; a header length needs ${SAFETENSORS_PREFIX_BYTES}`)
  // As a BigInt: a length of 2^53+1 must not be rounded into a plausible one.
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true)
  if (length > BigInt(fileBytes - SAFETENSORS_PREFIX_BYTES) || length > BigInt(maxBytes)) {
    const pickle = start[0] === 0x80 || (start[0] === 0x50 && start[1] === 0x4b)
    if (pickle)
      throw adapterInvalid(`${what} is a pickle or zip file under another name; pickles are never opened: save it as safetensors`)
    const bound = length > BigInt(maxBytes) ? `the limit is ${maxBytes}` : `the file has ${fileBytes}`
    throw adapterInvalid(`${what} announces a header of ${length} bytes; ${bound}`)
  }
  if (length < 2n) throw adapterInvalid(`${what} announces a header of ${length} bytes; the shortest is "{}"`)
  return Number(length)
}

/**
 * The tensors that a header announces, in its order; together they cover the `tensorBytes` behind it exactly.
 * @throws ServingError `adapter_invalid` naming the tensor, the offset or the number that is wrong
 */
export function parseSafetensorsHeader(
  bytes: Uint8Array,
  { tensorBytes, what }: { readonly tensorBytes: number; readonly what: string },
): readonly SafetensorsEntry[] {
  const header = readJson(decodeUtf8(bytes, `the header of ${what}`), `the header of ${what}`)
  if (!isJsonObject(header)) throw adapterInvalid(`the header of ${what} is ${describeJson(header)}, not an object`)
  checkMetadata(header.get('__metadata__'), what)
  const entries: SafetensorsEntry[] = []
  for (const [name, entry] of header) {
    if (name !== '__metadata__') entries.push(readEntry(name, entry))
  }
  checkCoverage(entries, tensorBytes, what)
  return entries
}

function checkMetadata(metadata: JsonValue | undefined, what: string): void {
  if (metadata === undefined) return
  if (!isJsonObject(metadata)) throw adapterInvalid(`__metadata__ in ${what} is ${describeJson(metadata)}, not an object`)
  for (const [key, value] of metadata) {
    if (typeof value !== 'string')
      throw adapterInvalid(`__metadata__ ${quoted(key)} in ${what} is ${describeJson(value)}, not a string`)
  }
}

/** One tensor as the header announces it: bytes `begin` … `end − 1` behind the header. */
export interface SafetensorsEntry {
  readonly name: string
  /** As written in the file, such as `F32`. */
  readonly dtype: string
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

function readEntry(name: string, entry: JsonValue): SafetensorsEntry {
  const tensor = `tensor ${quoted(name)}`
  if (!isJsonObject(entry)) throw adapterInvalid(`${tensor} is ${describeJson(entry)}, not an object`)
  const dtype = entry.get('dtype')
  const bits = typeof dtype === 'string' ? dtypeBits.get(dtype) : undefined
  if (typeof dtype !== 'string' || bits === undefined)
    throw adapterInvalid(`${tensor} has the unknown dtype ${describeJson(dtype)}`)
  const shape = readIntegers(entry, 'shape', tensor)
  if (shape.length > MAX_DIMENSIONS) throw adapterInvalid(`${tensor} has ${shape.length} dimensions, more than ${MAX_DIMENSIONS}`)
  const [begin, end, ...more] = readIntegers(entry, 'data_offsets', tensor)
  if (begin === undefined || end === undefined || more.length > 0)
    throw adapterInvalid(`data_offsets of ${tensor} must be [begin, end]`)
  if (begin > end) throw adapterInvalid(`data_offsets of ${tensor} run backwards: ${begin} to ${end}`)
  for (const field of entry.keys()) {
    if (field !== 'dtype' && field !== 'shape' && field !== 'data_offsets')
      throw adapterInvalid(`${tensor} has the unknown field ${quoted(field)}`)
  }
  // BigInt throughout: a product that overflows 2^53 must not come out as a plausible length.
  const totalBits = shape.reduce((product, size) => product * BigInt(size), BigInt(bits))
  if (totalBits !== BigInt(end - begin) * 8n) {
    throw adapterInvalid(
      `${tensor} of shape [${shape.join(', ')}] and dtype ${dtype} does not fill its ${end - begin} bytes exactly`,
    )
  }
  return { name, dtype, shape, begin, end }
}

function readIntegers(entry: JsonObject, field: string, tensor: string): readonly number[] {
  const list = entry.get(field)
  if (!isJsonArray(list)) throw adapterInvalid(`${field} of ${tensor} is ${describeJson(list)}, not a list`)
  return list.map((item) => {
    const integer = integerOf(item)
    if (integer === undefined)
      throw adapterInvalid(`${field} of ${tensor} holds ${describeJson(item)}; whole numbers from 0 to 2^53−1 are allowed`)
    return integer
  })
}

/** Every byte after the header belongs to exactly one tensor. */
function checkCoverage(entries: readonly SafetensorsEntry[], available: number, what: string): void {
  let covered = 0
  for (const { name, begin, end } of entries.toSorted((x, y) => x.begin - y.begin || x.end - y.end)) {
    if (begin !== covered) {
      const fault = begin > covered ? 'leaves a gap' : 'overlaps another tensor'
      throw adapterInvalid(`tensor ${quoted(name)} at offset ${begin} ${fault}; ${covered} is expected`)
    }
    covered = end
  }
  if (covered > available)
    throw adapterInvalid(`${what} is ${covered - available} bytes short: tensors need ${covered}, it has ${available}`)
  if (covered < available)
    throw adapterInvalid(`${what} has ${available - covered} bytes that belong to no tensor after offset ${covered}`)
}
