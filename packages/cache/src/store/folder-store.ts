/**
 * An object store on a local folder: the key is the path below it.
 *
 * - A write goes to a temporary file beside its target, is synced, and appears by one rename (or, create-once, by one hard
 *   link, which fails when the name exists). A reader sees the old bytes or the new ones.
 * - An etag is the sha256 of the content. It is remembered per file identity (inode, size, times), so that listing a folder
 *   reads only what is new to it.
 * - Replacing under a condition compares and renames under a lock file, so that several processes may share a folder.
 * - No symbolic link is followed, neither as a file nor as a folder on the way: a link placed in the folder by somebody
 *   else must not make it read or write elsewhere.
 */
import { constants } from 'node:fs'
import { type FileHandle, link, lstat, mkdir, open, readdir, realpath, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { ServingError } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { sha256Hex } from '../format/digest.ts'
import { ahead } from './ahead.ts'
import { type FileIdentity, identityKey } from './file-identity.ts'
import { withFileLock } from './file-lock.ts'
import type { GetOptions, ListOptions, ObjectEntry, ObjectStore, PutOptions, StoredObject } from './object-store.ts'
import { storeFailure } from './store-failure.ts'
import { checkStoreKey, isStoreKey } from './store-key.ts'

/**
 * Etags remembered; each costs some 200 bytes. A catalogue of 10,000 adapters has 20,000 objects and is listed every few
 * seconds: with fewer places than objects, every listing would read every file.
 */
const ETAGS_REMEMBERED = 100_000
/** Files and folders that a listing looks at at once. */
const LOOKED_AT_ONCE = 32
const TEMPORARY = '.quiver-tmp-'

export class FolderStore implements ObjectStore {
  readonly #root: string
  readonly #uniqueId: () => string
  readonly #etags = new LRUCache<string, string>({ max: ETAGS_REMEMBERED })

  private constructor(root: string, uniqueId: () => string) {
    this.#root = root
    this.#uniqueId = uniqueId
  }

  /**
   * Makes the folder when it is missing.
   * @param uniqueId names temporary files; must never repeat among the processes that share the folder
   * @throws ServingError `source_unavailable` when the folder cannot be used
   * @example await FolderStore.open('./quiver-data', randomUUID)
   */
  static async open(folder: string, uniqueId: () => string): Promise<FolderStore> {
    try {
      await mkdir(folder, { recursive: true })
      return new FolderStore(await realpath(folder), uniqueId)
    } catch (cause) {
      throw new ServingError('source_unavailable', `the store folder cannot be used`, { folder }, { cause })
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject> {
    return await this.#withFile(key, async (file, stats) => {
      options.signal?.throwIfAborted()
      const size = Number(stats.size)
      const { start, end } = clampRange(options.range, size, key)
      if (options.maxBytes !== undefined && end - start > options.maxBytes) {
        throw new ServingError('too_large', `object ${key} has ${end - start} bytes, more than ${options.maxBytes}`)
      }
      const whole = start === 0 && end === size
      const bytes = await readBytes(file, start, end, key)
      const etag = whole ? this.#rememberEtag(stats, await sha256Hex(bytes)) : await this.#etagOf(file, stats, key)
      if (options.ifMatch !== undefined && options.ifMatch !== etag) throw changed(key)
      options.signal?.throwIfAborted()
      return { bytes, etag, size }
    })
  }

  async head(key: string): Promise<ObjectEntry> {
    return await this.#withFile(key, async (file, stats) => ({
      key,
      size: Number(stats.size),
      etag: await this.#etagOf(file, stats, key),
    }))
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<{ readonly etag: string }> {
    checkStoreKey(key)
    const path = join(this.#root, key)
    const temporary = join(dirname(path), `${TEMPORARY}${this.#uniqueId()}`)
    try {
      await this.#makeFolder(dirname(path))
      await writeNew(temporary, bytes)
      if (options.ifNoneMatch === '*') await link(temporary, path)
      else await this.#locked(path, () => this.#replace(key, { temporary, path, ifMatch: options.ifMatch }))
      return { etag: await sha256Hex(bytes) }
    } catch (thrown) {
      throw storeFailure(thrown, key)
    } finally {
      // Gone already after a rename.
      await unlink(temporary).catch(() => undefined)
    }
  }

  async *list(prefix: string, { startAfter = '' }: ListOptions = {}): AsyncIterable<ObjectEntry> {
    const keys = this.#keys('', await this.#names(''), prefix, startAfter)
    for await (const entry of ahead(keys, LOOKED_AT_ONCE, (key) => this.#entryOf(key))) if (entry !== undefined) yield entry
  }

  async delete(key: string): Promise<void> {
    checkStoreKey(key)
    const path = join(this.#root, key)
    try {
      if ((await realpath(dirname(path))) !== dirname(path)) return
      await this.#locked(path, () => unlink(path))
    } catch (thrown) {
      const failure = storeFailure(thrown, key)
      if (failure.code !== 'not_found') throw failure
    }
  }

  /** Of a key that was found in its folder. Undefined when it is no object any more. */
  async #entryOf(key: string): Promise<ObjectEntry | undefined> {
    try {
      // Of a file that has not changed everything is known without opening it, which would take four calls.
      const stats = await lstat(join(this.#root, key), { bigint: true })
      const etag = this.#etags.get(identityKey(stats))
      return etag === undefined ? await this.head(key) : { key, size: Number(stats.size), etag }
    } catch (thrown) {
      const failure = storeFailure(thrown, key)
      if (failure.code !== 'not_found') throw failure
      return undefined
    }
  }

  async #replace(
    key: string,
    { temporary, path, ifMatch }: { temporary: string; path: string; ifMatch: string | undefined },
  ): Promise<void> {
    if (ifMatch !== undefined && (await this.head(key)).etag !== ifMatch) throw changed(key)
    await rename(temporary, path)
  }

  async #locked(path: string, work: () => Promise<void>): Promise<void> {
    await withFileLock(join(dirname(path), `.quiver-lock-${basename(path)}`), this.#uniqueId, work)
  }

  /** Folder by folder, so that a link in an existing part is found before anything is made behind it. */
  async #makeFolder(folder: string): Promise<void> {
    let path = this.#root
    for (const name of folder.slice(this.#root.length).split('/')) {
      if (name === '') continue
      path = join(path, name)
      await mkdir(path).catch((thrown: NodeJS.ErrnoException) => {
        if (thrown.code !== 'EEXIST') throw thrown
      })
      if (!(await lstat(path)).isDirectory())
        throw new ServingError('conflict', `a part of the key is taken by something that is no folder`, { path })
    }
  }

  async #withFile<T>(key: string, use: (file: FileHandle, stats: FileIdentity) => Promise<T>): Promise<T> {
    checkStoreKey(key)
    const path = join(this.#root, key)
    try {
      // Throws ENOENT for a missing folder; differs when a link stands on the way.
      if ((await realpath(dirname(path))) !== dirname(path)) throw missing(key)
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
      try {
        const stats = await file.stat({ bigint: true })
        if (!stats.isFile()) throw missing(key)
        return await use(file, stats)
      } finally {
        await file.close()
      }
    } catch (thrown) {
      throw storeFailure(thrown, key)
    }
  }

  async #etagOf(file: FileHandle, stats: FileIdentity, key: string): Promise<string> {
    const known = this.#etags.get(identityKey(stats))
    return known ?? this.#rememberEtag(stats, await sha256Hex(await readBytes(file, 0, Number(stats.size), key)))
  }

  #rememberEtag(stats: FileIdentity, etag: string): string {
    this.#etags.set(identityKey(stats), etag)
    return etag
  }

  /** What is in `folder` ('' or ending in '/'), in ascending order, folders with their '/'. */
  async #names(folder: string): Promise<readonly string[]> {
    const entries = await readdir(join(this.#root, folder), { withFileTypes: true }).catch((thrown: NodeJS.ErrnoException) => {
      if (thrown.code === 'ENOENT' || thrown.code === 'ENOTDIR') return []
      throw storeFailure(thrown, folder)
    })
    return entries
      .filter((entry) => entry.isFile() || entry.isDirectory())
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .sort((x, y) => (x < y ? -1 : 1))
  }

  /** Keys below `folder` in ascending order; whole folders that cannot match are not read. */
  async *#keys(folder: string, names: readonly string[], prefix: string, startAfter: string): AsyncGenerator<string> {
    const keys = names.map((name) => folder + name).filter((key) => mayMatch(key, prefix, startAfter))
    const read = async (key: string) => ({ key, names: key.endsWith('/') ? await this.#names(key) : undefined })
    for await (const { key, names: below } of ahead(keys, LOOKED_AT_ONCE, read)) {
      if (below === undefined) yield key
      else yield* this.#keys(key, below, prefix, startAfter)
    }
  }
}

/** @param key of an object, or of a folder, ending in '/', whose objects may match */
function mayMatch(key: string, prefix: string, startAfter: string): boolean {
  if (!key.endsWith('/')) return key.startsWith(prefix) && key > startAfter && isStoreKey(key)
  const hasPrefix = key.startsWith(prefix) || prefix.startsWith(key)
  return hasPrefix && (key > startAfter || startAfter.startsWith(key)) && isStoreKey(key.slice(0, -1))
}

function clampRange(range: GetOptions['range'], size: number, key: string): { start: number; end: number } {
  if (range === undefined) return { start: 0, end: size }
  const { start, end } = range
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end <= start || start >= size) {
    throw new ServingError('invalid_request', `bytes ${start} to ${end} are no range of object ${key}, which has ${size} bytes`)
  }
  return { start, end: Math.min(end, size) }
}

async function readBytes(file: FileHandle, start: number, end: number, key: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(new ArrayBuffer(end - start))
  let filled = 0
  while (filled < bytes.length) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, start + filled)
    if (bytesRead === 0) throw new ServingError('source_unavailable', `object ${key} became shorter while it was read`)
    filled += bytesRead
  }
  return bytes
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

function missing(key: string): ServingError {
  return new ServingError('not_found', `the store has no object ${key}`)
}

function changed(key: string): ServingError {
  return new ServingError('conflict', `object ${key} was changed by somebody else`)
}
