import type { AdapterDigest, BaseLayout, Logger } from '@quiver/protocol'
import { ServingError } from '@quiver/protocol'
import { readAdapter } from './format/inspect.ts'
import { type PackedFile, packAdapter } from './format/pack.ts'
import type { PackedAdapter, PackedDtype } from './format/packed-adapter.ts'
import type { ValidAdapter } from './format/validate.ts'
import { MemberSources, type ReadSource } from './merge/member-sources.ts'
import { mergeAdapters } from './merge/merge-adapters.ts'
import type { MergeRecipe } from './merge/merge-recipe.ts'
import type { OriginAdapter } from './origin/origin.ts'
import type { DiskTier } from './tiers/disk-tier.ts'

/** Each holds a packed adapter in memory until it is on disk. */
const WRITES_AT_ONCE = 16

export interface LoaderConfig {
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
  readonly maxRank: number
}

/** An adapter in memory, and where it came from. */
export interface Loaded {
  readonly adapter: PackedAdapter
  readonly from: 'disk' | 'origin' | 'merge'
}

export interface LoaderDeps {
  readonly disk: DiskTier
  readonly originOf: (digest: AdapterDigest) => OriginAdapter
  /** Reads a member of a merge when it may be read; `read` does it. */
  readonly readMember: (digest: AdapterDigest, signal: AbortSignal, read: ReadSource) => Promise<ValidAdapter>
  readonly log: Logger
}

/**
 * Brings one adapter's packed weights into memory: from disk, else from its origin, packed and then kept on disk. A merged
 * adapter has no origin: it is made anew out of its members'.
 */
export class AdapterLoader {
  readonly #config: LoaderConfig
  readonly #disk: DiskTier
  readonly #originOf: (digest: AdapterDigest) => OriginAdapter
  readonly #members: MemberSources
  readonly #log: Logger
  /** Writes to disk that requests do not wait for. */
  readonly #writes = new Set<Promise<unknown>>()

  constructor(config: LoaderConfig, { disk, originOf, readMember, log }: LoaderDeps) {
    this.#config = config
    this.#disk = disk
    this.#originOf = originOf
    this.#members = new MemberSources((digest, signal) => readMember(digest, signal, (...wanted) => this.#read(...wanted)))
    this.#log = log
  }

  /**
   * @param recipe of a merged adapter
   * @throws ServingError the origin's codes, `adapter_invalid`, or `client_closed` when `signal` was aborted
   */
  async load(digest: AdapterDigest, recipe: MergeRecipe | undefined, signal: AbortSignal): Promise<Loaded> {
    const kept = await this.#disk.read(digest)
    // A file packed under a larger limit, before the operator lowered it.
    if (kept !== undefined && kept.rank <= this.#config.maxRank) return { adapter: kept, from: 'disk' }
    throwIfAborted(signal, digest)
    const { file, adapter } = await (recipe === undefined ? this.#pack(digest, signal) : this.#merge(digest, recipe, signal))
    throwIfAborted(signal, digest)
    this.#log('info', 'adapter packed', { digest, rank: adapter.rank, bytes: adapter.bytes })
    this.#keep(digest, file)
    return { adapter, from: recipe === undefined ? 'origin' : 'merge' }
  }

  async #pack(digest: AdapterDigest, signal: AbortSignal): Promise<PackedFile> {
    const { layout, dtype } = this.#config
    return await packAdapter(await this.#read(digest, signal), { digest, layout, dtype })
  }

  async #merge(digest: AdapterDigest, recipe: MergeRecipe, signal: AbortSignal): Promise<PackedFile> {
    const { layout, dtype } = this.#config
    const adapters = await this.#members.readAll(recipe.members, signal)
    return await mergeAdapters({ recipe, adapters, target: { digest, layout, dtype }, signal })
  }

  async #read(digest: AdapterDigest, signal: AbortSignal): Promise<ValidAdapter> {
    const { layout, maxRank } = this.#config
    const files = await this.#originOf(digest).fetch(signal)
    throwIfAborted(signal, digest)
    return await readAdapter(files, layout, maxRank)
  }

  #keep(digest: AdapterDigest, file: Uint8Array): void {
    if (this.#writes.size >= WRITES_AT_ONCE) {
      this.#log('warn', 'the disk is too slow: an adapter is not kept on it', { digest })
      return
    }
    const write = this.#disk.write(digest, file).finally(() => this.#writes.delete(write))
    this.#writes.add(write)
  }

  /** Resolves when everything is on disk that was to be kept. */
  async settled(): Promise<void> {
    while (this.#writes.size > 0) await Promise.allSettled(this.#writes)
  }
}

function throwIfAborted(signal: AbortSignal, digest: AdapterDigest): void {
  if (signal.aborted) throw new ServingError('client_closed', `loading adapter ${digest} was cancelled`)
}
