/**
 * Adapters in folders of this machine, below configured roots. A client names a folder; its content decides the digest. The
 * digest is remembered by the identity of both files (inode, size, times), so that a request for a known folder costs two
 * `stat` calls and a changed folder is a new adapter.
 */
import { constants } from 'node:fs'
import { access, type FileHandle, open, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { type AdapterDigest, ServingError } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { MAX_CONFIG_BYTES, parseAdapterConfig } from '../format/adapter-config.ts'
import { adapterInvalid } from '../format/adapter-problem.ts'
import { adapterDigest } from '../format/digest.ts'
import type { AdapterFiles } from '../format/inspect.ts'
import { LoadGate } from '../load-gate.ts'
import { type FileIdentity, identityKey } from '../store/file-identity.ts'
import { adapterFileNames, incomplete, MAX_CHAT_TEMPLATE_BYTES, otherWeightsNames, templateText } from './adapter-folder.ts'
import { Jail, shown } from './jail.ts'
import type { FoundAdapter, Origin, OriginLimits } from './origin.ts'

/** Digests remembered; each costs some 300 bytes. */
const DIGESTS_REMEMBERED = 10_000
/** Bounds the memory of first requests for many folders at once. */
const HASHED_AT_ONCE = 4
const { config: CONFIG, weights: WEIGHTS, chatTemplate: TEMPLATE } = adapterFileNames

interface ReadFile {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly identity: string
}

export class LocalOrigin implements Origin<string> {
  readonly #jail: Jail
  readonly #limits: OriginLimits
  readonly #digests = new LRUCache<string, AdapterDigest>({ max: DIGESTS_REMEMBERED })
  /** Folders that are being hashed, by the identity of their files: many requests for a new folder read it once. */
  readonly #hashing = new Map<string, Promise<AdapterDigest>>()
  readonly #gate = new LoadGate(HASHED_AT_ONCE, () => true)

  /** @param roots absolute paths of folders below which adapters may lie */
  constructor(roots: readonly string[], limits: OriginLimits) {
    this.#jail = new Jail(roots)
    this.#limits = limits
  }

  /** @param said a folder, absolute or relative to one of the roots, as a client wrote it */
  async resolve(said: string): Promise<FoundAdapter> {
    const folder = await this.#jail.enter(said)
    const identity = await this.#identity(folder, said)
    const digest = this.#digests.get(identity) ?? (await (this.#hashing.get(identity) ?? this.#hash(folder, said, identity)))
    return {
      digest,
      provenance: { type: 'local', path: said },
      chatTemplate: async () => await this.#chatTemplate(folder, said),
      fetch: async (signal) => {
        const { files, digest: found } = await this.#read(folder, said, signal)
        if (found === digest) return files
        throw new ServingError('conflict', `the adapter at ${shown(said)} was changed while it was being loaded: ask again`)
      },
    }
  }

  async #chatTemplate(folder: string, said: string): Promise<string | undefined> {
    if (!(await exists(folder, TEMPLATE))) return undefined
    const { bytes } = await this.#readFile(folder, TEMPLATE, said, MAX_CHAT_TEMPLATE_BYTES)
    return templateText(bytes, shown(said))
  }

  async #hash(folder: string, said: string, identity: string): Promise<AdapterDigest> {
    const hash = this.#gate.run(new AbortController().signal, async () => (await this.#read(folder, said)).digest)
    this.#hashing.set(identity, hash)
    try {
      return await hash
    } finally {
      this.#hashing.delete(identity)
    }
  }

  async #identity(folder: string, said: string): Promise<string> {
    const identityOf = async (name: string): Promise<string> =>
      await this.#open(folder, name, said, async (_, stats) => identityKey(stats))
    return `${await identityOf(CONFIG)}|${await identityOf(WEIGHTS)}`
  }

  async #read(folder: string, said: string, signal?: AbortSignal): Promise<{ files: AdapterFiles; digest: AdapterDigest }> {
    const config = await this.#readFile(folder, CONFIG, said, MAX_CONFIG_BYTES)
    // Parsed first: a rank that is too large is told as such, and the weights are not read.
    const parsed = parseAdapterConfig(config.bytes, this.#limits.maxRank)
    throwIfAborted(signal, said)
    const weights = await this.#readFile(folder, WEIGHTS, said, this.#limits.maxWeightsBytes)
    throwIfAborted(signal, said)
    const digest = await adapterDigest(parsed, weights.bytes)
    this.#digests.set(`${config.identity}|${weights.identity}`, digest)
    return { files: { config: config.bytes, weights: weights.bytes }, digest }
  }

  async #readFile(folder: string, name: string, said: string, maxBytes: number): Promise<ReadFile> {
    return await this.#open(folder, name, said, async (file, stats) => {
      if (stats.size > BigInt(maxBytes)) {
        throw new ServingError('too_large', `${name} at ${shown(said)} has ${stats.size} bytes; at most ${maxBytes} are allowed`)
      }
      const bytes = await readWhole(file, Number(stats.size))
      const identity = identityKey(stats)
      if (bytes === undefined || identityKey(await file.stat({ bigint: true })) !== identity) {
        throw new ServingError('conflict', `${name} at ${shown(said)} was changed while it was being read: ask again`)
      }
      return { bytes, identity }
    })
  }

  /** Opens a regular file below a root. Links are resolved first and must stay inside; the resolved name must be no link. */
  async #open<T>(
    folder: string,
    name: string,
    said: string,
    use: (file: FileHandle, stats: FileIdentity) => Promise<T>,
  ): Promise<T> {
    let file: FileHandle | undefined
    try {
      const path = await realpath(join(folder, name))
      if (!(await this.#jail.holds(path))) {
        throw new ServingError(
          'forbidden',
          `${name} at ${shown(said)} lies outside of the folders from which local adapters may be loaded`,
        )
      }
      // O_NONBLOCK: opening a FIFO must not wait for a writer.
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
      const stats = await file.stat({ bigint: true })
      if (!stats.isFile()) throw adapterInvalid(`${name} at ${shown(said)} is not a regular file`)
      return await use(file, stats)
    } catch (thrown) {
      throw await explain(thrown, { folder, name, said })
    } finally {
      await file?.close()
    }
  }
}

/** Reads exactly `size` bytes; undefined when the file is not that long any more. */
async function readWhole(file: FileHandle, size: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const bytes = new Uint8Array(new ArrayBuffer(size))
  let filled = 0
  while (filled < size) {
    const { bytesRead } = await file.read(bytes, filled, size - filled, filled)
    if (bytesRead === 0) return undefined
    filled += bytesRead
  }
  return bytes
}

async function explain(
  thrown: unknown,
  { folder, name, said }: { folder: string; name: string; said: string },
): Promise<ServingError> {
  if (thrown instanceof ServingError) return thrown
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown'
  if (code === 'ENXIO' || code === 'EISDIR') return adapterInvalid(`${name} at ${shown(said)} is not a regular file`)
  if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ELOOP') {
    return new ServingError('source_unavailable', `${name} at ${shown(said)} cannot be read`, { reason: code }, { cause: thrown })
  }
  const { pickle, shards } = otherWeightsNames
  const [config, weights, hasPickle, hasShards] = await Promise.all(
    [CONFIG, WEIGHTS, pickle, shards].map((file) => exists(folder, file)),
  )
  return incomplete(
    { config: config === true, weights: weights === true, pickle: hasPickle === true, shards: hasShards === true },
    shown(said),
  )
}

async function exists(folder: string, name: string): Promise<boolean> {
  return await access(join(folder, name)).then(
    () => true,
    () => false,
  )
}

function throwIfAborted(signal: AbortSignal | undefined, said: string): void {
  if (signal?.aborted) throw new ServingError('client_closed', `loading the adapter at ${shown(said)} was cancelled`)
}
