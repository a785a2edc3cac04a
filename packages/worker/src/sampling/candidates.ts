import assert from 'node:assert/strict'

/** How a key of 32 bits is looked at, its highest bits first. */
const digits = [
  { shift: 21, bits: 11 },
  { shift: 10, bits: 11 },
  { shift: 0, bits: 10 },
] as const

/** `count`: each candidate counts 1; `weight`: each counts its weight. */
export type Measure = 'count' | 'weight'

/**
 * The tokens that may still be chosen, by ascending id, each with a weight, and the work space to narrow them down. One for
 * all sequences of a worker: it is filled anew for every token, and nothing of the vocabulary's size is allocated per token.
 */
export class Candidates {
  count = 0
  /** Sum of the weights. */
  total = 0
  readonly ids: Int32Array
  /** Relative probabilities, all above 0. */
  readonly weights: Float64Array
  /** By which `keepBest` orders: the lowest first. */
  readonly keys: Float32Array
  /** For a changed copy of a row. */
  readonly scores: Float32Array
  readonly #keyBits: Uint32Array
  readonly #histogram = new Float64Array(2 ** 11)

  constructor(vocabSize: number) {
    const keys = new ArrayBuffer(vocabSize * 4)
    this.ids = new Int32Array(vocabSize)
    this.weights = new Float64Array(vocabSize)
    this.keys = new Float32Array(keys)
    this.#keyBits = new Uint32Array(keys)
    this.scores = new Float32Array(vocabSize)
  }

  /** Drops what weighs less than `least`, but never everything. */
  dropLighter(least: number): void {
    const { ids, weights, count } = this
    let kept = 0
    let total = 0
    for (let at = 0; at < count; at++) {
      const weight = weights[at] ?? 0
      if (weight < least) continue
      ids[kept] = ids[at] ?? 0
      weights[kept] = weight
      total += weight
      kept++
    }
    if (kept === 0) return
    this.count = kept
    this.total = total
  }

  /**
   * Keeps the candidates of the lowest keys, one after the other, until what is kept measures `budget` or more; at least one.
   * Among equal keys the lower id goes first. `keys` are spent afterwards.
   *
   * A radix selection instead of sorting a vocabulary of 150,000 for every token: each scan finds the next bits of the last
   * key to be kept. After the first, what lies above is gone, which is nearly all.
   */
  keepBest(measure: Measure, budget: number): void {
    this.#makeKeysSortable()
    let last = 0
    let before = 0
    for (const { shift, bits } of digits) {
      const digit = this.#findDigit({ measure, budget: budget - before, prefix: last, shift, bits })
      last = last * 2 ** bits + digit.value
      before += digit.before
      this.#compact(shift, last, { measure, room: budget - before })
    }
  }

  /** Turns the bits of a float, in place, so that they order as unsigned integers. */
  #makeKeysSortable(): void {
    const bits = this.#keyBits
    const { count } = this
    for (let at = 0; at < count; at++) {
      const key = bits[at] ?? 0
      bits[at] = key >>> 31 === 1 ? ~key : key | 0x8000_0000
    }
  }

  /** Among the keys that begin with `prefix`: the next digit of the key at which the budget is reached, and what measures lie below. */
  #findDigit({ measure, budget, prefix, shift, bits }: DigitSearch): { readonly value: number; readonly before: number } {
    const { weights, count } = this
    const keys = this.#keyBits
    const histogram = this.#histogram.fill(0)
    const mask = 2 ** bits - 1
    const isFirst = shift + bits === 32
    for (let at = 0; at < count; at++) {
      const key = keys[at] ?? 0
      if (!isFirst && key >>> (shift + bits) !== prefix) continue
      const digit = (key >>> shift) & mask
      histogram[digit] = (histogram[digit] ?? 0) + (measure === 'count' ? 1 : (weights[at] ?? 0))
    }
    let before = 0
    let found = { value: -1, before: 0 }
    for (let value = 0; value <= mask; value++) {
      const here = histogram[value] ?? 0
      if (here === 0) continue
      found = { value, before }
      before += here
      if (before >= budget) break
    }
    assert(found.value !== -1, 'a selection is made among candidates that weigh something')
    return found
  }

  /** Drops what begins with more than `last`, and with whole keys, of those equal to it what there is no room for. */
  #compact(shift: number, last: number, { measure, room }: { readonly measure: Measure; readonly room: number }): void {
    const { ids, weights, count } = this
    const keys = this.#keyBits
    let kept = 0
    let total = 0
    let used = 0
    for (let at = 0; at < count; at++) {
      const key = keys[at] ?? 0
      const beginning = key >>> shift
      if (beginning > last) continue
      const weight = weights[at] ?? 0
      if (shift === 0 && beginning === last) {
        if (used > 0 && used >= room) continue
        used += measure === 'count' ? 1 : weight
      }
      ids[kept] = ids[at] ?? 0
      weights[kept] = weight
      keys[kept] = key
      total += weight
      kept++
    }
    this.count = kept
    this.total = total
  }
}

interface DigitSearch {
  readonly measure: Measure
  readonly budget: number
  readonly prefix: number
  readonly shift: number
  readonly bits: number
}
