/** What is asked of a simulated cluster: how often, for which adapters, and what happens to the workers meanwhile. */
import { createHash } from 'node:crypto'
import type { AdapterDigest } from '@quiver/protocol'
import type { Random } from '../shared/random.ts'

export interface Workload {
  readonly name: string
  readonly adapters: number
  /** Zipf's exponent: the i-th most asked for adapter is asked for in proportion to 1 / i^exponent; 0: all alike. */
  readonly exponent: number
  /** Which adapter is the i-th most asked for at this share of the run (0 … 1); by itself the i-th. */
  readonly rankShift?: (share: number) => number
  /** Share of requests, at this share of the run, that all want one adapter nobody has asked for before. */
  readonly crowd?: (share: number) => number
  /** Share of requests for the base model alone. */
  readonly base?: number
  /** Share of requests that go through all adapters one after another, as a tenant who tries them all does. */
  readonly scan?: number
  /** Tenants that send, one after another; absent: one. */
  readonly tenants?: number
  /** Share of the requests that are of one tenant more, `flood`. */
  readonly flood?: number
}

/** Draws 0 … adapters − 1 by Zipf's law, through its cumulated weights. */
export function zipfSampler(adapters: number, exponent: number, random: Random): () => number {
  const cumulated: number[] = []
  let total = 0
  for (let rank = 1; rank <= adapters; rank++) {
    total += 1 / rank ** exponent
    cumulated.push(total)
  }
  return () => {
    const drawn = random() * total
    let [low, high] = [0, adapters - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((cumulated[middle] ?? total) <= drawn) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Share of Zipf traffic that the `held` most asked for adapters make up: the best that a fixed assignment of slots can do. */
export function bestStaticHitRate(adapters: number, exponent: number, held: number): number {
  let [some, all] = [0, 0]
  for (let rank = 1; rank <= adapters; rank++) {
    const weight = 1 / rank ** exponent
    all += weight
    if (rank <= held) some += weight
  }
  return some / all
}

/** What stands for an adapter's weights. */
export function adapterText(index: number): string {
  return `adapter ${index}`
}

export function adapterDigest(index: number): AdapterDigest {
  return createHash('sha256').update(adapterText(index)).digest('hex') as AdapterDigest
}

/** Time to the next arrival of a Poisson process, in ms. */
export function nextArrivalMs(perSecond: number, random: Random): number {
  return (-Math.log(1 - random()) / perSecond) * 1000
}
