/**
 * The file in which the disk tier keeps an adapter that was packed once: one read later, a load is views over one buffer.
 *
 *   0   8  magic "QVRPACK\n"
 *   8  32  sha256 of everything behind it
 *  40   4  version, little-endian
 *  44   4  header length H in bytes
 *  48   8  length of the whole file
 *  56   8  zero
 *  64   H  header: JSON {digest, layout, dtype, rank, modules: [[layer, module, rank, offset of A, offset of Bᵀ], …]}
 *  …       zeros up to a multiple of 64, then the arrays, each starting at a multiple of 64; offsets count from byte 0
 *
 * Arrays are in the byte order of the machine; only little-endian machines run ONNX Runtime.
 */
import { createHash } from 'node:crypto'
import { type AdapterDigest, type BaseLayout, type ModuleName, moduleNames, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { sha256Hex } from './digest.ts'
import type { PackedAdapter, PackedArray, PackedDtype, PackedModule } from './packed-adapter.ts'

/** Part of the disk tier's path: files of another version are never opened. */
export const PACKED_VERSION = 1
const MAGIC = Buffer.from('QVRPACK\n', 'latin1')
const PREFIX_BYTES = 64
const CHECKSUM_AT = 8
const VERSION_AT = 40
const ALIGNMENT = 64
const MAX_HEADER_BYTES = 1024 * 1024

const headerSchema = z.object({
  digest: z.string(),
  layout: z.string(),
  dtype: z.enum(['f16', 'bf16', 'f32']),
  rank: z.int().positive(),
  modules: z.array(
    z.tuple([z.int().nonnegative(), z.enum(moduleNames), z.int().positive(), z.int().positive(), z.int().positive()]),
  ),
})
type Header = z.infer<typeof headerSchema>

/** What a packed file must have been made for. */
export interface PackedTarget {
  readonly digest: AdapterDigest
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
}

/** Shapes of a base model as 16 hex digits; two bases with the same shapes share packed files. */
export function layoutFingerprint(layout: BaseLayout): string {
  const modules = layout.modules.map(({ name, inFeatures, outFeatures }) => [name, inFeatures, outFeatures])
  return createHash('sha256')
    .update(JSON.stringify([layout.hiddenSize, layout.layerCount, modules]))
    .digest('hex')
    .slice(0, 16)
}

/** Which module of which layer has which rank; the arrays are filled in afterwards. */
export interface PackedShape {
  readonly layer: number
  readonly module: BaseLayout['modules'][number]
  readonly rank: number
}

/** A file whose arrays are to be written through `adapter.modules`; `seal` adds the checksum. */
export interface PackedDraft {
  readonly file: Uint8Array<ArrayBuffer>
  readonly adapter: PackedAdapter
  seal(): Promise<void>
}

/** Lays out a packed file of zeros. */
export function draftPacked(target: PackedTarget, shapes: readonly PackedShape[]): PackedDraft {
  const elementBytes = target.dtype === 'f32' ? 4 : 2
  const place = (start: number): Header['modules'] => {
    let offset = start
    return shapes.map(({ layer, module, rank }) => {
      const a = offset
      const b = aligned(a + rank * module.inFeatures * elementBytes)
      offset = aligned(b + rank * module.outFeatures * elementBytes)
      return [layer, module.name, rank, a, b]
    })
  }
  const head = {
    digest: target.digest,
    layout: layoutFingerprint(target.layout),
    dtype: target.dtype,
    rank: Math.max(...shapes.map(({ rank }) => rank)),
  }
  // Offsets depend on the header's length and that on the digits of the offsets: reserve room as if all were long.
  const room = aligned(PREFIX_BYTES + Buffer.byteLength(JSON.stringify({ ...head, modules: place(10 ** 12) })))
  const header = { ...head, modules: place(room) }
  const last = shapes.at(-1)
  const lastOffset = header.modules.at(-1)?.[4]
  const size =
    last === undefined || lastOffset === undefined ? room : lastOffset + last.rank * last.module.outFeatures * elementBytes
  const file = new Uint8Array(new ArrayBuffer(size))
  const headerBytes = Buffer.from(JSON.stringify(header), 'utf8')
  file.set(headerBytes, PREFIX_BYTES)
  return {
    file,
    adapter: viewModules(file, header, target),
    async seal() {
      writePrefix(file, headerBytes.length)
      file.set(Buffer.from(await sha256Hex(file.subarray(VERSION_AT)), 'hex'), CHECKSUM_AT)
    },
  }
}

/**
 * Verifies a packed file and gives views over its buffer.
 * @param file the whole file; views are made without copying when it starts at a multiple of 4 in its buffer
 * @throws ServingError `internal` with a reason when a byte is not as it was written or the file is for something else
 */
export async function readPacked(file: Uint8Array<ArrayBuffer>, target: PackedTarget): Promise<PackedAdapter> {
  const prefix = new DataView(file.buffer, file.byteOffset, file.length)
  if (file.length < PREFIX_BYTES || !MAGIC.equals(file.subarray(0, MAGIC.length)))
    throw damaged('it does not begin as a packed adapter', target)
  const headerBytes = prefix.getUint32(VERSION_AT + 4, true)
  if (prefix.getUint32(VERSION_AT, true) !== PACKED_VERSION) throw damaged('it has another version', target)
  if (prefix.getBigUint64(48, true) !== BigInt(file.length) || prefix.getBigUint64(56, true) !== 0n)
    throw damaged('its length is wrong', target)
  if (headerBytes > Math.min(MAX_HEADER_BYTES, file.length - PREFIX_BYTES)) throw damaged('its header is too long', target)
  const expected = Buffer.from(file.buffer, file.byteOffset + CHECKSUM_AT, 32).toString('hex')
  if ((await sha256Hex(file.subarray(VERSION_AT))) !== expected) throw damaged('its checksum does not match', target)
  // From here on the bytes are the ones that `draftPacked` wrote.
  const header = headerSchema.parse(
    JSON.parse(Buffer.from(file.buffer, file.byteOffset + PREFIX_BYTES, headerBytes).toString('utf8')),
  )
  if (header.digest !== target.digest || header.dtype !== target.dtype || header.layout !== layoutFingerprint(target.layout)) {
    throw damaged('it holds another adapter, base layout or element type', target)
  }
  return viewModules(file.byteOffset % 4 === 0 ? file : file.slice(), header, target)
}

function viewModules(file: Uint8Array<ArrayBuffer>, header: Header, { digest, layout, dtype }: PackedTarget): PackedAdapter {
  const shapes = new Map<ModuleName, BaseLayout['modules'][number]>(layout.modules.map((module) => [module.name, module]))
  const view = (offset: number, length: number): PackedArray =>
    dtype === 'f32'
      ? new Float32Array(file.buffer, file.byteOffset + offset, length)
      : new Uint16Array(file.buffer, file.byteOffset + offset, length)
  const modules = header.modules.map(([layer, name, rank, a, b]): PackedModule => {
    const shape = shapes.get(name)
    if (shape === undefined) throw damaged(`it has the module ${name}, which the base model does not`, { digest, layout, dtype })
    return { layer, module: name, rank, a: view(a, rank * shape.inFeatures), b: view(b, rank * shape.outFeatures) }
  })
  return { digest, dtype, rank: header.rank, modules, bytes: file.length }
}

function writePrefix(file: Uint8Array<ArrayBuffer>, headerBytes: number): void {
  const prefix = new DataView(file.buffer, file.byteOffset, PREFIX_BYTES)
  file.set(MAGIC, 0)
  prefix.setUint32(VERSION_AT, PACKED_VERSION, true)
  prefix.setUint32(VERSION_AT + 4, headerBytes, true)
  prefix.setBigUint64(48, BigInt(file.length), true)
}

function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT
}

function damaged(reason: string, { digest }: PackedTarget): ServingError {
  return new ServingError('internal', `the packed file of adapter ${digest} is damaged: ${reason}`)
}
