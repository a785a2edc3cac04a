/** Names in ascending order by code unit. Finding a place takes O(log n), a new name moves those behind it. */
export class SortedNames {
  #names: string[] = []

  get size(): number {
    return this.#names.length
  }

  /** Adds many at once in O(n log n). */
  addAll(names: Iterable<string>): void {
    this.#names = [...new Set([...this.#names, ...names])].sort()
  }

  add(name: string): void {
    const at = this.#placeOf(name)
    if (this.#names[at] !== name) this.#names.splice(at, 0, name)
  }

  delete(name: string): void {
    const at = this.#placeOf(name)
    if (this.#names[at] === name) this.#names.splice(at, 1)
  }

  all(): readonly string[] {
    return this.#names
  }

  /** Names that start with `prefix`, beginning behind `after`: the first in O(log n), each further one in O(1). */
  *from(prefix: string, after = ''): Generator<string> {
    let at = this.#placeOf(prefix > after ? prefix : after)
    for (; at < this.#names.length; at++) {
      const name = this.#names[at] ?? ''
      if (name <= after && after !== '') continue
      if (!name.startsWith(prefix)) return
      yield name
    }
  }

  /** Where the name is, or would be. */
  #placeOf(name: string): number {
    let low = 0
    let high = this.#names.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#names[middle] ?? '') < name) low = middle + 1
      else high = middle
    }
    return low
  }
}
