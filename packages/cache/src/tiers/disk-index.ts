import assert from 'node:assert/strict'

/**
 * What the disk tier believes to be in its folder: sizes, in order of use. The folder is the truth; this is rebuilt from it.
 * Bounded by the byte budget, since every entry stands for a file of at least some kilobytes.
 */
export class DiskIndex {
  /** Insertion order is order of use, oldest first. */
  readonly #entries = new Map<string, number>()
  /** How often each path is being read now; also paths that are not in the index yet. */
  readonly #reading = new Map<string, number>()
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  get size(): number {
    return this.#entries.size
  }

  sizeOf(path: string): number | undefined {
    return this.#entries.get(path)
  }

  /** Adds or replaces an entry as the most recently used. */
  put(path: string, bytes: number): void {
    this.delete(path)
    this.#entries.set(path, bytes)
    this.#bytes += bytes
  }

  delete(path: string): void {
    this.#bytes -= this.#entries.get(path) ?? 0
    this.#entries.delete(path)
  }

  /** While a file is read it is not chosen for eviction. */
  beginReading(path: string): void {
    this.#reading.set(path, (this.#reading.get(path) ?? 0) + 1)
  }

  endReading(path: string): void {
    const readers = this.#reading.get(path)
    assert(readers !== undefined, 'a file ends being read as often as it begins')
    if (readers > 1) this.#reading.set(path, readers - 1)
    else this.#reading.delete(path)
  }

  /** The least recently used files, together at least `bytes`, or all there are; none that is being read. */
  oldest(bytes: number): readonly string[] {
    const chosen: string[] = []
    let found = 0
    for (const [path, size] of this.#entries) {
      if (found >= bytes) break
      if (this.#reading.has(path)) continue
      chosen.push(path)
      found += size
    }
    return chosen
  }
}
