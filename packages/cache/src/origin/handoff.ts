import type { AdapterDigest, Timers } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'

/** Larger files are read a second time rather than kept. */
const MAX_BYTES = 64 * 1024 * 1024
const KEPT_MS = 30_000

/** What was read to find out a digest. */
export interface ReadFiles {
  readonly config: Uint8Array<ArrayBuffer>
  /** Absent where their sha256 was known without reading them. */
  readonly weights?: Uint8Array<ArrayBuffer>
}

/**
 * Carries what was read to find out a digest to the load that mostly follows, so that an adapter is not downloaded twice. Bounded in bytes and
 * time: a load that never comes costs nothing for long.
 */
export class Handoff {
  readonly #timers: Timers
  readonly #files = new LRUCache<AdapterDigest, ReadFiles>({
    maxSize: MAX_BYTES,
    sizeCalculation: ({ config, weights }) => 1 + config.length + (weights?.length ?? 0),
  })

  constructor(timers: Timers) {
    this.#timers = timers
  }

  keep(digest: AdapterDigest, files: ReadFiles): void {
    this.#files.set(digest, files)
    this.#timers.after(KEPT_MS, () => {
      if (this.#files.peek(digest) === files) this.#files.delete(digest)
    })
  }

  /** Once: whoever takes them has them alone. */
  take(digest: AdapterDigest): ReadFiles | undefined {
    const files = this.#files.get(digest)
    this.#files.delete(digest)
    return files
  }
}
