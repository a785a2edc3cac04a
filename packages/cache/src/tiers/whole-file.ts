import type { FileHandle } from 'node:fs/promises'

/** All bytes of an open file. Throws for anything but a regular file of at most `maxBytes`, and for one that is cut meanwhile. */
export async function readWhole(file: FileHandle, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const stats = await file.stat()
  if (!stats.isFile()) throw new Error('not a regular file')
  if (stats.size > maxBytes) throw new Error('larger than the whole budget')
  const bytes = new Uint8Array(new ArrayBuffer(stats.size))
  for (let filled = 0; filled < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, filled)
    if (bytesRead === 0) throw new Error('shorter than its size')
    filled += bytesRead
  }
  return bytes
}
