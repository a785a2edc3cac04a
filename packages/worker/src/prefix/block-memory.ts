import assert from 'node:assert/strict'

/** Memory is taken in pieces of about this size, so that a cache that is little used is small. */
const SLAB_BYTES = 8 * 2 ** 20

/** Room for a fixed number of blocks of equal size. It is taken in slabs when their first place is used, and then kept. */
export class BlockMemory {
  readonly places: number
  readonly #blockBytes: number
  readonly #perSlab: number
  readonly #slabs: Uint8Array[] = []

  /** @param budgetBytes all slabs together never take more */
  constructor(blockBytes: number, budgetBytes: number) {
    this.#blockBytes = blockBytes
    this.places = Math.floor(budgetBytes / blockBytes)
    this.#perSlab = Math.max(1, Math.floor(SLAB_BYTES / blockBytes))
  }

  /** Of the slabs that were taken. */
  get takenBytes(): number {
    return this.#slabs.reduce((sum, { byteLength }) => sum + byteLength, 0)
  }

  /** The bytes of a place. Places must be used for the first time in their order. */
  at(place: number): Uint8Array {
    assert(place >= 0 && place < this.places, `there is no place ${place} among ${this.places}`)
    const slab = Math.floor(place / this.#perSlab)
    assert(slab <= this.#slabs.length, `place ${place} is used before those ahead of it`)
    const blocks = Math.min(this.#perSlab, this.places - slab * this.#perSlab)
    this.#slabs[slab] ??= new Uint8Array(blocks * this.#blockBytes)
    const start = (place - slab * this.#perSlab) * this.#blockBytes
    return this.#slabs[slab].subarray(start, start + this.#blockBytes)
  }
}
