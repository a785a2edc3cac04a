import type { AdapterDigest, BaseLayout, Logger } from '@quiver/protocol'
import { ServingError } from '@quiver/protocol'
import { readAdapter } from './format/inspect.ts'
import { packAdapter } from './format/pack.ts'
import type { PackedAdapter, PackedDtype } from './format/packed-adapter.ts'
import type { OriginAdapter } from './origin/origin.ts'
import type { DiskTier } from './tiers/disk-tier.ts'

/** Each holds a packed adapter in memory until it is on disk. */
const WRITES_AT_ONCE = 16

export interface LoaderConfig {
  readonly layout: BaseLayout
  readonly dtype: PackedDtype
  readonly maxRank: number
}

/** Brings one adapter's packed weights into memory: from disk, else from its origin, packed and then kept on disk. */
export class AdapterLoader {
  readonly #config: LoaderConfig
  readonly #disk: DiskTier
  readonly #originOf: (digest: AdapterDigest) => OriginAdapter
  readonly #log: Logger
  /** Writes to disk that requests do not wait for. */
  readonly #writes = new Set<Promise<unknown>>()

  constructor(config: LoaderConfig, deps: { disk: DiskTier; originOf: (digest: AdapterDigest) => OriginAdapter; log: Logger }) {
    this.#config = config
    this.#disk = deps.disk
    this.#originOf = deps.originOf
    this.#log = deps.log
  }

  /**
   * @throws ServingError the origin's codes, `adapter_invalid`, or `client_closed` when `signal` was aborted
   */
  async load(digest: AdapterDigest, signal: AbortSignal): Promise<PackedAdapter> {
    const kept = await this.#disk.read(digest)
    // A file packed under a larger limit, before the operator lowered it.
    if (kept !== undefined && kept.rank <= this.#config.maxRank) return kept
    throwIfAborted(signal, digest)
    const { layout, dtype, maxRank } = this.#config
    const files = await this.#originOf(digest).fetch(signal)
    throwIfAborted(signal, digest)
    const valid = await readAdapter(files, layout, maxRank)
    const { file, adapter } = await packAdapter(valid, { digest, layout, dtype })
    throwIfAborted(signal, digest)
    this.#log('info', 'adapter packed', { digest, rank: adapter.rank, bytes: adapter.bytes })
    this.#keep(digest, file)
    return adapter
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
