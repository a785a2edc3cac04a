/** A min-heap of (rank, place), ordered by rank and then by place. Rank is below 2^21, place below 2^31. */
export interface SymbolHeap {
  /** Empties the heap and makes room for `capacity` entries in all. */
  reset(capacity: number): void
  push(rank: number, at: number): void
  /** Takes the least entry out, into `poppedRank` and `poppedAt`. @returns false when there is none */
  pop(): boolean
  readonly poppedRank: number
  readonly poppedAt: number
}

/** Both halves share one float64, which holds 53 bits exactly: one comparison and one copy per step. */
const PLACES = 2 ** 31
/** Room beyond this is given back after use, so that one huge prompt does not cost memory for ever. */
const KEPT_ENTRIES = 1 << 16

export function createSymbolHeap(): SymbolHeap {
  return new BinaryHeap()
}

class BinaryHeap implements SymbolHeap {
  poppedRank = 0
  poppedAt = 0
  #entries = new Float64Array(1024)
  #size = 0

  reset(capacity: number): void {
    this.#size = 0
    const held = this.#entries.length
    if (capacity > held || held > KEPT_ENTRIES) this.#entries = new Float64Array(Math.max(capacity, 1024))
  }

  push(rank: number, at: number): void {
    const entries = this.#entries
    const entry = rank * PLACES + at
    let place = this.#size++
    while (place > 0) {
      const parent = (place - 1) >> 1
      const above = entries[parent] ?? 0
      if (above <= entry) break
      entries[place] = above
      place = parent
    }
    entries[place] = entry
  }

  pop(): boolean {
    if (this.#size === 0) return false
    const entries = this.#entries
    const top = entries[0] ?? 0
    this.poppedRank = Math.floor(top / PLACES)
    this.poppedAt = top % PLACES
    this.#size--
    this.#sink(entries[this.#size] ?? 0)
    return true
  }

  /** Puts `entry` into the hole at the top. */
  #sink(entry: number): void {
    const entries = this.#entries
    const size = this.#size
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= size) break
      if (child + 1 < size && (entries[child + 1] ?? 0) < (entries[child] ?? 0)) child++
      const below = entries[child] ?? 0
      if (below >= entry) break
      entries[place] = below
      place = child
    }
    entries[place] = entry
  }
}
