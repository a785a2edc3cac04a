/**
 * Counters of the service that clients of one level (tenants, or the adapters of one tenant) have had: virtual tokens over weight. Who
 * has the least is served next; that is all there is to fairness. The scheme is the Virtual Token Counter (Sheng et al., "Fairness in
 * Serving Large Language Models", OSDI 2024), with one thing added.
 *
 * A client that begins to wait is lifted to the least counter of those who wait, so nobody saves up credit while away. While nobody waits
 * nobody is kept from anything, and what was used then is held against no one: whoever begins to wait next is lifted to the highest.
 *
 * Added is the ageing. With ever new clients, each lifted to the least counter and served at once, that counter would stand still and
 * somebody just above it would wait for ever. So the level of entry rises by a share of all service given, whatever the least
 * counter does, until it is above the highest of those who wait: newcomers then stand behind whoever has waited.
 */

/** While those who wait are served alike, their least counter rises faster than this and the ageing has no effect. */
const AGEING = 1 / 4

export interface Counter {
  /** Virtual tokens over weight; to be compared, means nothing by itself. */
  readonly level: number
  readonly weight: number
  readonly waiting: number
  readonly running: number
  /** Virtual tokens since the client was first seen. */
  readonly served: number
  /** When it last came or was served. */
  readonly seenAtMs: number
}

type Entry = { -readonly [Key in keyof Counter]: Counter[Key] }

export class VirtualCounters {
  /** Last seen last. */
  readonly #counters = new Map<string, Entry>()
  readonly #backlogged = new Set<string>()
  readonly #most: number
  readonly #onForget: (client: string) => void
  #entry = 0

  /** @param most counters that are kept; beyond it, who has nothing here is forgotten, longest unseen first */
  constructor(most: number, onForget: (client: string) => void = () => {}) {
    this.#most = most
    this.#onForget = onForget
  }

  get(client: string): Counter | undefined {
    return this.#counters.get(client)
  }

  /** Longest unseen first. */
  all(): Iterable<readonly [string, Counter]> {
    return this.#counters
  }

  /** Those who wait. */
  *backlogged(): Iterable<readonly [string, Counter]> {
    for (const client of this.#backlogged) {
      const counter = this.#counters.get(client)
      if (counter !== undefined) yield [client, counter]
    }
  }

  enqueue(client: string, weight: number, nowMs: number): void {
    const counter = this.#seen(client, nowMs)
    counter.weight = weight
    if (counter.waiting === 0) counter.level = Math.max(counter.level, this.#levelOfEntry())
    counter.waiting += 1
    this.#backlogged.add(client)
  }

  /** One that waited runs, or has left where `runs` is false. */
  dequeue(client: string, runs: boolean): void {
    const counter = this.#counters.get(client)
    if (counter === undefined) return
    counter.waiting -= 1
    if (runs) counter.running += 1
    if (counter.waiting === 0) this.#backlogged.delete(client)
  }

  /** One that ran has ended. */
  end(client: string): void {
    const counter = this.#counters.get(client)
    if (counter !== undefined) counter.running -= 1
  }

  /** @param tokens virtual ones */
  charge(client: string, tokens: number, nowMs: number): void {
    const counter = this.#seen(client, nowMs)
    counter.level += tokens / counter.weight
    counter.served += tokens
    let weight = 0
    for (const [, { weight: own }] of this.backlogged()) weight += own
    if (weight > 0) this.#entry += (AGEING * tokens) / weight
  }

  #levelOfEntry(): number {
    if (this.#backlogged.size === 0) {
      for (const { level } of this.#counters.values()) this.#entry = Math.max(this.#entry, level)
      return this.#entry
    }
    let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
    for (const [, { level }] of this.backlogged()) {
      least = Math.min(least, level)
      most = Math.max(most, level)
    }
    // One token above the highest: among equals, who has no place yet goes first, and that is always the newcomer.
    this.#entry = Math.min(Math.max(this.#entry, least), most + 1)
    return this.#entry
  }

  #seen(client: string, nowMs: number): Entry {
    const known = this.#counters.get(client)
    const counter = known ?? { level: 0, weight: 1, waiting: 0, running: 0, served: 0, seenAtMs: nowMs }
    if (known === undefined) this.#makeRoom()
    counter.seenAtMs = nowMs
    this.#counters.delete(client)
    this.#counters.set(client, counter)
    return counter
  }

  #makeRoom(): void {
    if (this.#counters.size < this.#most) return
    for (const [client, { waiting, running }] of this.#counters) {
      if (waiting + running > 0) continue
      this.#counters.delete(client)
      this.#onForget(client)
      return
    }
  }
}
