/**
 * Tells a whole built folder from a damaged one: a small file beside it holds the size and CRC-32 of each of its files. A check
 * reads everything once, which also brings it into the page cache for the load that follows.
 */
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { z } from 'zod'

const SEAL = 'seal.json'
const CHUNK_BYTES = 8 * 1024 * 1024

const checksumSchema = z.object({ bytes: z.int().nonnegative(), crc32: z.int().nonnegative() })
const sealSchema = z.record(z.string(), checksumSchema)
type Checksum = z.infer<typeof checksumSchema>

/** Seals the given files of a folder as they are on disk now. */
export async function sealFolder(folder: string, names: readonly string[]): Promise<void> {
  const entries = await Promise.all(names.map(async (name) => [name, await checksum(join(folder, name))] as const))
  const file = await open(join(folder, SEAL), 'wx')
  try {
    await file.writeFile(JSON.stringify(Object.fromEntries(entries)))
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Whether a folder is sealed and all its files are as they were then. */
export async function isSealedFolder(folder: string): Promise<boolean> {
  try {
    const seal = sealSchema.parse(JSON.parse(await readFile(join(folder, SEAL), 'utf8')))
    const found = await Promise.all(Object.keys(seal).map((name) => checksum(join(folder, name))))
    return Object.values(seal).every(({ bytes, crc32: sum }, i) => found[i]?.bytes === bytes && found[i]?.crc32 === sum)
  } catch {
    // No folder, no seal, a seal that is not one, or a file missing: in each case there is nothing to use.
    return false
  }
}

async function checksum(path: string): Promise<Checksum> {
  const file = await open(path, 'r')
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
    let sum = 0
    let bytes = 0
    for (;;) {
      const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, null)
      if (bytesRead === 0) return { bytes, crc32: sum }
      sum = crc32(chunk.subarray(0, bytesRead), sum)
      bytes += bytesRead
    }
  } finally {
    await file.close()
  }
}
