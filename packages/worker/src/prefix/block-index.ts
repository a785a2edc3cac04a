import assert from 'node:assert/strict'

interface Block {
  readonly place: number
  /** The block before it in its chain; undefined for a first one. */
  readonly before: string | undefined
}

/**
 * Which blocks there are and in which of a fixed number of places, least recently used first. Blocks are chains: each but a
 * first one stands on the block before it, and a chain loses its end first. That needs no search: whoever uses a block has
 * used all before it, and these are counted as used after it, so that the least recently used block always ends a chain.
 */
export class BlockIndex {
  /** Least recently used first. */
  readonly #blocks = new Map<string, Block>()
  readonly #places: number
  /** Places are taken in their order; later a block takes that of the one that leaves. */
  #everUsed = 0
  #evicted = 0

  constructor(places: number) {
    this.#places = places
  }

  get size(): number {
    return this.#blocks.size
  }

  /** Blocks that made room for others. */
  get evicted(): number {
    return this.#evicted
  }

  /** How many of a chain's first blocks are there. As no chain has a hole, halving finds it. */
  match(keys: readonly string[]): number {
    let [low, high] = [0, keys.length]
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (this.#blocks.has(keys[middle - 1] ?? '')) low = middle
      else high = middle - 1
    }
    return low
  }

  /** The places of a chain's first `count` blocks, which must be there; they are now the most recently used. */
  use(keys: readonly string[], count: number): number[] {
    const places: number[] = []
    for (let at = count - 1; at >= 0; at -= 1) {
      const key = keys[at] ?? ''
      const block = this.#blocks.get(key)
      assert(block !== undefined, `block ${at} of a chain of ${count} is not there`)
      this.#blocks.delete(key)
      this.#blocks.set(key, block)
      places.push(block.place)
    }
    return places.reverse()
  }

  /**
   * Adds up to `count` blocks of a chain from block `from` on, for which those least recently used have to leave.
   * @returns their places, to be filled at once; fewer when the block before them is not there, they are there already, or nothing
   * but their own chain is left to leave
   */
  add(keys: readonly string[], from: number, count: number): number[] {
    const places: number[] = []
    if (this.match(keys) !== from) return places
    // From here on the oldest block of this chain is the one that is built upon: as long as it is not the oldest of all, who is oldest
    // is somebody else's.
    this.use(keys, from)
    const kept = keys[Math.max(0, from - 1)]
    for (const key of keys.slice(from, from + count)) {
      const place = this.#room(kept)
      if (place === undefined) break
      this.#blocks.set(key, { place, before: keys[from + places.length - 1] })
      places.push(place)
    }
    this.use(keys, from + places.length)
    return places
  }

  /** Every block, least recently used first. */
  *[Symbol.iterator](): Iterator<{ readonly key: string } & Block> {
    for (const [key, block] of this.#blocks) yield { key, ...block }
  }

  /** @param kept the oldest block that may not leave */
  #room(kept: string | undefined): number | undefined {
    if (this.#everUsed < this.#places) {
      this.#everUsed += 1
      return this.#everUsed - 1
    }
    const [oldest] = this.#blocks
    if (oldest === undefined || oldest[0] === kept) return undefined
    this.#blocks.delete(oldest[0])
    this.#evicted += 1
    return oldest[1].place
  }
}
