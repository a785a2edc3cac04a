import assert from 'node:assert/strict'
import { splitMix64 } from './random.ts'

/**
 * The watermark of Kirchenbauer et al. 2023 ("A Watermark for Large Language Models", arXiv 2301.10226, algorithm 2) with the numbers
 * of TGI and LoRAX: after each token a pseudo-random half of the vocabulary is green, and the logits of green tokens are raised, so
 * that a text has more of them than chance allows. Which half follows from the token before and a key alone.
 *
 * The permutation behind it is our own (theirs is PyTorch's generator), so that only `detectWatermark` finds our marks, and no
 * other's.
 */
export const watermarkRule = {
  /** Share of the vocabulary that is green. */
  gamma: 0.5,
  /** Added to the logits of green tokens. */
  delta: 2,
  hashKey: 15_485_863,
} as const

/** Which tokens are green after a token. Reuses its memory, 5 bytes for each token of the vocabulary. */
export class Greenlist {
  readonly #order: Int32Array
  readonly #isGreen: Uint8Array
  #after: number | undefined

  constructor(vocabSize: number) {
    this.#order = new Int32Array(vocabSize)
    this.#isGreen = new Uint8Array(vocabSize)
  }

  /**
   * @param previous id of the token before
   * @returns [vocab], 1 for a green token; valid until the next call
   */
  after(previous: number): Uint8Array {
    if (this.#after === previous) return this.#isGreen
    this.#after = previous
    const order = this.#order
    const count = order.length
    for (let id = 0; id < count; id++) order[id] = id
    this.#isGreen.fill(0)
    const next = generator(BigInt(watermarkRule.hashKey) * BigInt(previous))
    const greens = Math.floor(count * watermarkRule.gamma)
    // Fisher and Yates, as far as the green part of the permutation goes.
    for (let at = 0; at < greens; at++) {
      const other = at + Math.floor((next() / 2 ** 32) * (count - at))
      const id = order[other] ?? 0
      order[other] = order[at] ?? 0
      order[at] = id
      this.#isGreen[id] = 1
    }
    return this.#isGreen
  }
}

/**
 * xoshiro128** 1.1 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 2021), begun by SplitMix64: whole
 * numbers alone, the same on every machine.
 * @returns draws from 0 to 2^32 - 1
 */
function generator(seed: bigint): () => number {
  const half = (count: number, shift: bigint) => Number((splitMix64(seed, count) >> shift) & 0xffff_ffffn) | 0
  let [a, b, c, d] = [half(0, 0n), half(0, 32n), half(1, 0n), half(1, 32n)] as const
  const turned = (value: number, by: number) => (value << by) | (value >>> (32 - by))
  return () => {
    const drawn = Math.imul(turned(Math.imul(b, 5), 7), 9)
    const shifted = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= shifted
    d = turned(d, 11)
    return drawn >>> 0
  }
}

/** Raises the green tokens of one sequence. */
export interface Watermark {
  /** @param scores [vocab], log-probabilities; afterwards no longer normalised */
  apply(scores: Float32Array): void
  /** Tells the token that the sequence goes on with. */
  accept(id: number): void
}

/** @param promptIds at least one: its last token is before the first of the answer */
export function createWatermark(promptIds: readonly number[], vocabSize: number): Watermark {
  const last = promptIds.at(-1)
  assert(last !== undefined, 'a prompt has tokens')
  const greenlist = new Greenlist(vocabSize)
  let previous = last
  return {
    apply: (scores) => {
      const isGreen = greenlist.after(previous)
      for (let id = 0; id < scores.length; id++) {
        scores[id] = (scores[id] ?? Number.NaN) + watermarkRule.delta * (isGreen[id] ?? 0)
      }
    },
    accept: (id) => {
      previous = id
    },
  }
}

export interface WatermarkFinding {
  /** Pairs of tokens that were counted, each different pair once. */
  readonly pairs: number
  readonly greens: number
  /** Standard deviations above what chance gives: above 4 for a marked text of some length, about 0 for any other. */
  readonly z: number
}

/**
 * Looks for our watermark in a text. A pair of tokens that comes again counts once, as the paper advises: a repetition proves nothing anew.
 * @param tokenIds the answer's tokens, the prompt's last one before them
 * @param vocabSize of the model that is said to have written it
 * @example detectWatermark([...promptIds.slice(-1), ...answerIds], 49_152).z > 4
 */
export function detectWatermark(tokenIds: readonly number[], vocabSize: number): WatermarkFinding {
  const { gamma } = watermarkRule
  const greenlist = new Greenlist(vocabSize)
  const seen = new Set<string>()
  let greens = 0
  tokenIds.forEach((id, at) => {
    const previous = tokenIds[at - 1]
    const pair = `${previous},${id}`
    if (previous === undefined || seen.has(pair)) return
    seen.add(pair)
    greens += greenlist.after(previous)[id] ?? 0
  })
  const pairs = seen.size
  const z = pairs === 0 ? 0 : (greens - gamma * pairs) / Math.sqrt(pairs * gamma * (1 - gamma))
  return { pairs, greens, z }
}
