import { writeF16 } from '@quiver/cache/format'
import { drawBelow, type Random } from '../shared/random.ts'

const POOL_LENGTH = 1 << 20
/**
 * Small enough that thirty layers of them leave numbers where a trained adapter leaves them: infinities and denormals
 * would be computed at another speed.
 */
const LARGEST = 0.02

/**
 * Random weights in bulk. Every tensor is a piece of one pool from a place of its own, because drawing the 156 million
 * numbers of 32 adapters one by one would take longer than what is measured with them.
 */
export class RandomWeights {
  readonly #random: Random
  readonly #floats: Float32Array<ArrayBuffer>
  readonly #halves: Uint16Array<ArrayBuffer>

  constructor(random: Random) {
    this.#random = random
    this.#floats = Float32Array.from({ length: POOL_LENGTH }, () => (random() - 0.5) * 2 * LARGEST)
    this.#halves = new Uint16Array(POOL_LENGTH)
    writeF16(this.#floats, this.#halves)
  }

  fill(target: Float32Array | Uint16Array): void {
    const pool = target instanceof Float32Array ? this.#floats : this.#halves
    for (let at = 0; at < target.length; ) {
      const from = drawBelow(this.#random, POOL_LENGTH)
      const piece = pool.subarray(from, from + target.length - at)
      target.set(piece, at)
      at += piece.length
    }
  }
}
