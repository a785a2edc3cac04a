import assert from 'node:assert/strict'

interface Entry<K> {
  readonly key: K
  readonly score: number
  /** Order of putting: the older of two equals goes first. */
  readonly turn: number
}

/**
 * What may have to leave a tier, least worth keeping first: a binary heap whose entries can be found by key. Scores are those
 * at the time of putting. They only grow while an entry lies here, so looking again at what comes up is enough.
 */
export class EvictionQueue<K> {
  readonly #scoreOf: (key: K) => number
  readonly #heap: Entry<K>[] = []
  readonly #places = new Map<K, number>()
  #turns = 0

  constructor(scoreOf: (key: K) => number) {
    this.#scoreOf = scoreOf
  }

  get size(): number {
    return this.#heap.length
  }

  has(key: K): boolean {
    return this.#places.has(key)
  }

  /** Adds a key, or scores it anew; among equals it is then the last to go. */
  put(key: K): void {
    this.delete(key)
    this.#turns += 1
    this.#add({ key, score: this.#scoreOf(key), turn: this.#turns })
  }

  delete(key: K): void {
    const place = this.#places.get(key)
    if (place !== undefined) this.#take(place)
  }

  /** Takes out what is least worth keeping of that which may go. */
  takeLeast(mayGo: (key: K) => boolean = () => true): K | undefined {
    const passedOver: Entry<K>[] = []
    let least: K | undefined
    while (least === undefined && this.#heap.length > 0) {
      const entry = this.#take(0)
      const score = this.#scoreOf(entry.key)
      // Used since it was put here: it has earned another place.
      if (score > entry.score) this.#add({ ...entry, score })
      else if (mayGo(entry.key)) least = entry.key
      else passedOver.push(entry)
    }
    for (const entry of passedOver) this.#add(entry)
    return least
  }

  #add(entry: Entry<K>): void {
    this.#heap.push(entry)
    this.#rise(this.#heap.length - 1)
  }

  #take(place: number): Entry<K> {
    const entry = this.#at(place)
    const last = this.#heap.pop()
    this.#places.delete(entry.key)
    if (last !== undefined && last !== entry) {
      this.#heap[place] = last
      this.#places.set(last.key, place)
      this.#sink(this.#rise(place))
    }
    return entry
  }

  #rise(from: number): number {
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!goesBefore(this.#at(place), this.#at(parent))) break
      this.#swap(place, parent)
      place = parent
    }
    this.#places.set(this.#at(place).key, place)
    return place
  }

  #sink(from: number): void {
    let place = from
    for (;;) {
      const [left, right] = [2 * place + 1, 2 * place + 2]
      let first = place
      if (left < this.#heap.length && goesBefore(this.#at(left), this.#at(first))) first = left
      if (right < this.#heap.length && goesBefore(this.#at(right), this.#at(first))) first = right
      if (first === place) return
      this.#swap(place, first)
      place = first
    }
  }

  #swap(one: number, other: number): void {
    const [a, b] = [this.#at(one), this.#at(other)]
    this.#heap[one] = b
    this.#heap[other] = a
    this.#places.set(b.key, one)
    this.#places.set(a.key, other)
  }

  #at(place: number): Entry<K> {
    const entry = this.#heap[place]
    assert(entry !== undefined, 'a place of the heap is taken')
    return entry
  }
}

function goesBefore<K>(a: Entry<K>, b: Entry<K>): boolean {
  return a.score === b.score ? a.turn < b.turn : a.score < b.score
}
