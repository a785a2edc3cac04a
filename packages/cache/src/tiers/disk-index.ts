import assert from 'node:assert/strict'

interface Entry {
  readonly bytes: number
  busy: number
}

/**
 * What the disk tier believes to be in its folder: sizes, in order of use. The folder is the truth; this is rebuilt from it.
 * Bounded by the byte budget, since every entry stands for a file of at least some kilobytes.
 */
export class DiskIndex {
  /** Insertion order is order of use, oldest first. */
  readonly #entries = new Map<string, Entry>()
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  get size(): number {
    return this.#entries.size
  }

  has(path: string): boolean {
    return this.#entries.has(path)
  }

  sizeOf(path: string): number | undefined {
    return this.#entries.get(path)?.bytes
  }

  /** Adds or replaces an entry as the most recently used. */
  put(path: string, bytes: number): void {
    const busy = this.#entries.get(path)?.busy ?? 0
    this.delete(path)
    this.#entries.set(path, { bytes, busy })
    this.#bytes += bytes
  }

  touch(path: string): void {
    const entry = this.#entries.get(path)
    if (entry === undefined) return
    this.#entries.delete(path)
    this.#entries.set(path, entry)
  }

  delete(path: string): void {
    this.#bytes -= this.#entries.get(path)?.bytes ?? 0
    this.#entries.delete(path)
  }

  /** While a file is read it is not chosen for eviction. */
  setBusy(path: string, busy: boolean): void {
    const entry = this.#entries.get(path)
    if (entry === undefined) return
    entry.busy += busy ? 1 : -1
    assert(entry.busy >= 0, 'a file ends being read as often as it begins')
  }

  /** The least recently used files, together at least `bytes`, or all there are; none that is being read. */
  oldest(bytes: number): readonly string[] {
    const chosen: string[] = []
    let found = 0
    for (const [path, entry] of this.#entries) {
      if (found >= bytes) break
      if (entry.busy > 0) continue
      chosen.push(path)
      found += entry.bytes
    }
    return chosen
  }
}
