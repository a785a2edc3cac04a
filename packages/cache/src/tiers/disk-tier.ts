/**
 * Packed adapters in a folder, bounded by bytes: `packed-v<version>/<layout>-<dtype>/<aa>/<digest>.qvr`.
 *
 * A path follows from the content's digest and from what it was packed for, never from a name. A file is written beside its
 * place, synced and renamed, and its checksum is verified at every read: a crash, a flipped bit or a stranger's file cost
 * one load from the origin, never a wrong answer. Temporary files carry their process id; those of dead processes are
 * removed at start, so that several workers may share a folder. Each worker evicts by its own index; a file that another
 * one has removed is simply not found, and one that another has used since we last did is kept once more.
 *
 * Order of use survives a restart in the files' mtimes, where nothing else is known of them. They are set to a counter that
 * starts at the newest mtime found, not to the time of day.
 *
 * The tier is an economy, not a need: when the disk is full, read-only or broken, adapters are served from memory.
 */
import { constants } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type AdapterDigest, type BaseLayout, type Logger, parseAdapterDigest, ServingError } from '@quiver/protocol'
import type { PackedAdapter, PackedDtype } from '../format/packed-adapter.ts'
import { layoutFingerprint, PACKED_VERSION, readPacked } from '../format/packed-file.ts'
import type { DiskFiles } from './disk-files.ts'
import { DiskIndex, type Victim } from './disk-index.ts'
import { sweepFolder } from './disk-sweep.ts'
import { readWhole } from './whole-file.ts'

export interface DiskTierConfig {
  readonly folder: string
  readonly budgetBytes: number
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
}

export interface DiskTierDeps {
  readonly files: DiskFiles
  readonly log: Logger
  /** Names temporary files; never repeats. */
  readonly uniqueId: () => string
  readonly policy: DiskPolicy
  /** A file of this base model has come or gone. */
  readonly changed?: (digest: AdapterDigest) => void
}

/** What decides who makes room. */
export interface DiskPolicy {
  /** What an adapter is worth to keep on disk; the least goes first. */
  score(digest: AdapterDigest, bytes: number): number
  /** Another worker on this folder has used the adapter. */
  noteUse(digest: AdapterDigest): void
}

/** Counted since the start. */
export interface DiskTierCounters {
  readonly hits: number
  readonly misses: number
  readonly damaged: number
  readonly evicted: number
  readonly writeFailures: number
}

/** After these no write is tried again until the next start. */
const hopeless = new Set(['EROFS', 'EIO', 'EACCES', 'EPERM'])

export class DiskTier {
  readonly #config: DiskTierConfig
  readonly #deps: DiskTierDeps
  readonly #root: string
  readonly #home: string
  readonly #index: DiskIndex
  readonly #counters = { hits: 0, misses: 0, damaged: 0, evicted: 0, writeFailures: 0 }
  #stampMs = 0
  #writable = true

  private constructor(config: DiskTierConfig, deps: DiskTierDeps) {
    this.#config = config
    this.#deps = deps
    this.#root = join(config.folder, `packed-v${PACKED_VERSION}`)
    this.#home = join(this.#root, `${layoutFingerprint(config.layout)}-${config.dtype}`)
    this.#index = new DiskIndex((path, bytes) => deps.policy.score(digestOf(path), bytes))
  }

  /**
   * Makes the folder, removes what crashes left, and trims to the budget.
   * @throws ServingError `internal` when the folder cannot be made or written
   */
  static async open(config: DiskTierConfig, deps: DiskTierDeps): Promise<DiskTier> {
    const tier = new DiskTier(config, deps)
    await tier.#start()
    return tier
  }

  get bytes(): number {
    return this.#index.bytes
  }

  get counters(): DiskTierCounters {
    return { ...this.#counters }
  }

  get usage() {
    return { bytes: this.bytes, ...this.#counters }
  }

  /** Bytes of an adapter's packed file, as far as the index knows. */
  sizeOf(digest: AdapterDigest): number | undefined {
    return this.#index.sizeOf(this.#pathOf(digest))
  }

  /** What this base model and element type have here. */
  *digests(): Iterable<AdapterDigest> {
    for (const path of this.#index.paths()) if (path.startsWith(this.#home)) yield digestOf(path)
  }

  /** Keeps an adapter's file from being evicted, or no longer. */
  keep(digest: AdapterDigest, kept: boolean): void {
    this.#index.keep(this.#pathOf(digest), kept)
  }

  /** The adapter, verified; undefined when it is not here or was damaged (and is now discarded). Never throws. */
  async read(digest: AdapterDigest): Promise<PackedAdapter | undefined> {
    const path = this.#pathOf(digest)
    this.#index.beginReading(path)
    try {
      const file = await this.#readFile(path)
      if (file === undefined) {
        this.#counters.misses += 1
        return undefined
      }
      const packed = await readPacked(file, { digest, layout: this.#config.layout, dtype: this.#config.dtype })
      this.#counters.hits += 1
      await this.#use(path, file.length)
      return packed
    } catch (thrown) {
      this.#counters.damaged += 1
      this.#deps.log('warn', 'a packed adapter on disk is damaged and is discarded', { digest, path, reason: reasonOf(thrown) })
      await this.#remove(path)
      return undefined
    } finally {
      this.#index.endReading(path)
    }
  }

  /** Keeps a packed file. Says whether it is on disk now; a failure is logged and counted, never thrown. */
  async write(digest: AdapterDigest, file: Uint8Array): Promise<boolean> {
    if (!this.#writable || file.length > this.#config.budgetBytes) return false
    const path = this.#pathOf(digest)
    try {
      // What is pinned stays, even if nothing else fits beside it.
      if (!(await this.#makeRoom(file.length))) return false
      await this.#writeFile(path, file).catch(async (thrown: unknown) => {
        if (codeOf(thrown) !== 'ENOSPC') throw thrown
        await this.#evict(file.length)
        await this.#writeFile(path, file)
      })
      await this.#use(path, file.length)
      return true
    } catch (thrown) {
      this.#counters.writeFailures += 1
      const code = codeOf(thrown)
      if (hopeless.has(code)) {
        this.#writable = false
        this.#deps.log('error', 'the disk tier is switched off: its folder cannot be written', {
          folder: this.#root,
          reason: code,
        })
      } else {
        this.#deps.log('warn', 'an adapter could not be kept on disk', { digest, reason: reasonOf(thrown) })
      }
      return false
    }
  }

  async #start(): Promise<void> {
    const { files, log } = this.#deps
    try {
      await files.mkdir(this.#home, { recursive: true, mode: 0o700 })
      await files.access(this.#home, constants.R_OK | constants.W_OK | constants.X_OK)
    } catch (cause) {
      throw new ServingError(
        'internal',
        `the cache folder ${this.#config.folder} cannot be written (${codeOf(cause)}): name another one`,
        {},
        { cause },
      )
    }
    const { found, removed } = await sweepFolder(this.#root, files)
    for (const { path, bytes, mtimeMs } of found.toSorted((x, y) => x.mtimeMs - y.mtimeMs)) {
      this.#index.put(path, { bytes, stampMs: mtimeMs })
      this.#stampMs = Math.max(this.#stampMs, mtimeMs)
    }
    await this.#makeRoom(0)
    log('info', 'disk tier ready', { folder: this.#root, adapters: this.#index.size, bytes: this.#index.bytes, removed })
  }

  #pathOf(digest: AdapterDigest): string {
    return join(this.#home, digest.slice(0, 2), `${digest}.qvr`)
  }

  /** Undefined when there is nothing. Anything but a regular file throws, so that it is discarded. */
  async #readFile(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    // O_NOFOLLOW and O_NONBLOCK: a link is not followed, and a FIFO does not make us wait for a writer.
    const file = await this.#deps.files
      .open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
      .catch((thrown) => {
        const code = codeOf(thrown)
        // EMFILE: no file handle is free now; the file itself may be sound.
        if (code === 'ENOENT') this.#forget(path)
        if (code === 'ENOENT' || code === 'EMFILE' || code === 'ENFILE') return undefined
        throw thrown
      })
    if (file === undefined) return undefined
    return await readWhole(file, this.#config.budgetBytes).finally(() => file.close())
  }

  async #writeFile(path: string, bytes: Uint8Array): Promise<void> {
    const { files, uniqueId } = this.#deps
    const temporary = join(dirname(path), `tmp-${process.pid}-${uniqueId()}`)
    await files.mkdir(dirname(path), { recursive: true, mode: 0o700 })
    try {
      const file = await files.open(temporary, 'wx', 0o600)
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await files.rename(temporary, path)
    } catch (thrown) {
      await files.rm(temporary, { force: true }).catch(() => undefined)
      throw thrown
    }
  }

  /** Notes the use in the index and, for the next start, in the file's mtime. */
  async #use(path: string, bytes: number): Promise<void> {
    this.#stampMs += 1
    this.#index.put(path, { bytes, stampMs: this.#stampMs })
    this.#tell(path)
    // A lost stamp costs a little order after the next start.
    await this.#deps.files.utimes(path, this.#stampMs / 1000, this.#stampMs / 1000).catch(() => undefined)
  }

  async #makeRoom(bytes: number): Promise<boolean> {
    const over = this.#index.bytes + bytes - this.#config.budgetBytes
    return over <= 0 || (await this.#evict(over))
  }

  /** Removes what is least worth keeping until `bytes` are free. Says whether that many could be. */
  async #evict(bytes: number): Promise<boolean> {
    const spared = new Set<string>()
    for (let freed = 0; freed < bytes; ) {
      const victim = this.#index.takeLeast()
      if (victim === undefined) return false
      if (!spared.has(victim.path) && (await this.#isUsedByOthers(victim))) spared.add(victim.path)
      else {
        this.#counters.evicted += 1
        freed += victim.bytes
        await this.#remove(victim.path)
      }
    }
    return true
  }

  /** Whether another worker has used the file since we last did; then it is put back as used. */
  async #isUsedByOthers({ path, bytes, stampMs }: Victim): Promise<boolean> {
    const found = await this.#deps.files.lstat(path).catch(() => undefined)
    if (found === undefined || Math.abs(found.mtimeMs - stampMs) < 1) return false
    this.#deps.policy.noteUse(digestOf(path))
    this.#index.put(path, { bytes, stampMs: found.mtimeMs })
    return true
  }

  #forget(path: string): void {
    this.#index.delete(path)
    this.#tell(path)
  }

  /** Of files of other base models nobody wants to hear. */
  #tell(path: string): void {
    if (path.startsWith(this.#home)) this.#deps.changed?.(digestOf(path))
  }

  async #remove(path: string): Promise<void> {
    this.#forget(path)
    await this.#deps.files.rm(path, { recursive: true, force: true }).catch((thrown: unknown) => {
      this.#deps.log('warn', 'a file of the disk tier cannot be removed', { path, reason: codeOf(thrown) })
    })
  }
}

/** The sweep has seen to it that files are called after a digest. */
function digestOf(path: string): AdapterDigest {
  return parseAdapterDigest(basename(path, '.qvr'))
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown'
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
