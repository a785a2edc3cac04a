import assert from 'node:assert/strict'
import { EvictionQueue } from '../policy/eviction-queue.ts'

interface Entry {
  readonly bytes: number
  /** The modification time that we gave the file, or found. */
  readonly stampMs: number
}

/** A file that is to make room. */
export interface Victim extends Entry {
  readonly path: string
}

/**
 * What the disk tier believes to be in its folder. The folder is the truth; this is rebuilt from it. Bounded by the byte budget,
 * since every entry stands for a file of at least some kilobytes.
 */
export class DiskIndex {
  readonly #entries = new Map<string, Entry>()
  readonly #leaving: EvictionQueue<string>
  /** How often each path is being read now; also paths that are not in the index yet. */
  readonly #reading = new Map<string, number>()
  /** Paths that stay; also such as are not in the index yet. */
  readonly #kept = new Set<string>()
  #bytes = 0

  /** @param scoreOf what a file is worth to keep; among equals the one that was put first goes first */
  constructor(scoreOf: (path: string, bytes: number) => number) {
    this.#leaving = new EvictionQueue((path) => scoreOf(path, this.#entries.get(path)?.bytes ?? 0))
  }

  get bytes(): number {
    return this.#bytes
  }

  get size(): number {
    return this.#entries.size
  }

  paths(): Iterable<string> {
    return this.#entries.keys()
  }

  sizeOf(path: string): number | undefined {
    return this.#entries.get(path)?.bytes
  }

  /** Adds or replaces an entry. */
  put(path: string, entry: Entry): void {
    this.delete(path)
    this.#entries.set(path, entry)
    this.#bytes += entry.bytes
    this.#leaving.put(path)
  }

  delete(path: string): void {
    this.#bytes -= this.#entries.get(path)?.bytes ?? 0
    this.#leaving.delete(path)
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

  /** A file that is kept is never chosen for eviction. */
  keep(path: string, kept: boolean): void {
    if (kept) this.#kept.add(path)
    else this.#kept.delete(path)
  }

  /** Takes the file that is least worth keeping out of the index; undefined when all that there are must stay. */
  takeLeast(): Victim | undefined {
    const path = this.#leaving.takeLeast((one) => !this.#reading.has(one) && !this.#kept.has(one))
    const entry = path === undefined ? undefined : this.#entries.get(path)
    if (path === undefined || entry === undefined) return undefined
    this.delete(path)
    return { path, ...entry }
  }
}
