import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** @returns sha256 hex of a file's content */
export async function sha256OfFile(file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash, { signal })
  return hash.digest('hex')
}

/** @returns what git calls a file of this content: sha1 hex over `blob <bytes>\0` and the content */
export async function gitBlobId(file: string, bytes: number, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha1').update(`blob ${bytes}\0`)
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash, { signal })
  return hash.digest('hex')
}

/** Writes a stream into a new file, through to the disk. @returns sha256 hex of what was written */
export async function writeHashed(content: Readable, file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  const handle = await open(file, 'wx')
  try {
    for await (const chunk of content) {
      signal.throwIfAborted()
      hash.update(chunk)
      // Not `write`, which may write less than it was given.
      await handle.appendFile(chunk)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  return hash.digest('hex')
}
