/**
 * Reads one entry of a zip file as a stream. Only what wheels use: stored or deflated entries, no encryption, one disk, below
 * 4 GB (no zip64). Layout: PKWARE's APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.16.
 */
import { type FileHandle, open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { createInflateRaw } from 'node:zlib'
import { ServingError } from '@quiver/protocol'

const END_BYTES = 22
const MAX_COMMENT_BYTES = 65_535
const CENTRAL_BYTES = 46
const LOCAL_BYTES = 30
const MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
const STORED = 0
const DEFLATED = 8

interface Entry {
  readonly method: number
  readonly compressedBytes: number
  readonly headerOffset: number
}

/**
 * Hands the content of `name` in the zip file `path` to `use` as a stream.
 * @throws ServingError `invalid_request` when the file is no zip, is damaged, or has no such entry; whatever `use` throws
 */
export async function withZipEntry<T>(path: string, name: string, use: (content: Readable) => Promise<T>): Promise<T> {
  const handle = await open(path, 'r')
  try {
    const entry = await findEntry(handle, path, name)
    const local = await readAt(handle, entry.headerOffset, LOCAL_BYTES, path)
    if (local.readUInt32LE(0) !== 0x04034b50) throw damaged(path, `the header of ${name} is not where the directory says`)
    const start = entry.headerOffset + LOCAL_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28)
    if (entry.compressedBytes === 0) throw damaged(path, `${name} is empty`)
    const raw = handle.createReadStream({
      start,
      end: start + entry.compressedBytes - 1,
      autoClose: false,
      highWaterMark: 1 << 18,
    })
    if (entry.method === STORED) return await use(raw)
    const inflate = createInflateRaw({ chunkSize: 1 << 18 })
    raw.once('error', (error) => inflate.destroy(error))
    return await use(raw.pipe(inflate))
  } finally {
    await handle.close()
  }
}

async function findEntry(handle: FileHandle, path: string, name: string): Promise<Entry> {
  const { size } = await handle.stat()
  const tailBytes = Math.min(size, END_BYTES + MAX_COMMENT_BYTES)
  const tail = await readAt(handle, size - tailBytes, tailBytes, path)
  const end = tail.lastIndexOf(Buffer.from('504b0506', 'hex'))
  if (end < 0 || tail.length - end < END_BYTES) throw damaged(path, 'it has no directory: it is no zip file or is cut short')
  const directoryBytes = tail.readUInt32LE(end + 12)
  const directoryOffset = tail.readUInt32LE(end + 16)
  if (directoryBytes > MAX_DIRECTORY_BYTES || directoryOffset + directoryBytes > size) {
    throw damaged(path, `its directory of ${directoryBytes} bytes at ${directoryOffset} lies outside the file`)
  }
  const directory = await readAt(handle, directoryOffset, directoryBytes, path)
  for (let at = 0; at + CENTRAL_BYTES <= directory.length; ) {
    if (directory.readUInt32LE(at) !== 0x02014b50) throw damaged(path, `its directory is broken at byte ${directoryOffset + at}`)
    const nameBytes = directory.readUInt16LE(at + 28)
    if (directory.toString('utf8', at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameBytes) === name)
      return readEntry(directory, at, path, name)
    at += CENTRAL_BYTES + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32)
  }
  throw damaged(path, `it has no entry ${name}`)
}

function readEntry(directory: Buffer, at: number, path: string, name: string): Entry {
  const method = directory.readUInt16LE(at + 10)
  if (method !== STORED && method !== DEFLATED) throw damaged(path, `${name} is compressed by method ${method}`)
  if ((directory.readUInt16LE(at + 8) & 1) === 1) throw damaged(path, `${name} is encrypted`)
  return { method, compressedBytes: directory.readUInt32LE(at + 20), headerOffset: directory.readUInt32LE(at + 42) }
}

async function readAt(handle: FileHandle, position: number, length: number, path: string): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled)
    if (bytesRead === 0) throw damaged(path, `it ends at byte ${position + filled}`)
    filled += bytesRead
  }
  return buffer
}

function damaged(path: string, what: string): ServingError {
  return new ServingError('invalid_request', `${path} is not a readable zip file: ${what}`)
}
