/** A world with a clock of its own: things happen in the order of their time, and among equals in the order of their planning. */
import type { Clock } from '@quiver/protocol'

type Action = () => void | Promise<void>

interface Happening {
  readonly atMs: number
  readonly turn: number
  readonly action: Action
}

export class Simulation implements Clock {
  readonly #heap: Happening[] = []
  #nowMs = 0
  #turns = 0

  nowMs(): number {
    return this.#nowMs
  }

  /** @param delayMs from now; at least 0 */
  after(delayMs: number, action: Action): void {
    const happening = { atMs: this.#nowMs + Math.max(0, delayMs), turn: this.#turns, action }
    this.#turns += 1
    this.#heap.push(happening)
    this.#rise(this.#heap.length - 1)
  }

  /**
   * Lets happen what is planned, until nothing is left or `isOver`. An action that answers a promise has happened when that is
   * settled, so that code which awaits is part of the order like all other code.
   */
  async run(isOver: () => boolean = () => false): Promise<void> {
    while (this.#heap.length > 0 && !isOver()) {
      const { atMs, action } = this.#take()
      this.#nowMs = atMs
      const done = action()
      if (done !== undefined) await done
    }
  }

  #take(): Happening {
    const [first] = this.#heap
    const last = this.#heap.pop()
    if (first === undefined || last === undefined) throw new Error('nothing is planned')
    if (last !== first) {
      this.#heap[0] = last
      this.#sink()
    }
    return first
  }

  #rise(from: number): void {
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!this.#isBefore(place, parent)) return
      this.#swap(place, parent)
      place = parent
    }
  }

  #sink(): void {
    for (let place = 0; ; ) {
      let first = place
      for (const child of [2 * place + 1, 2 * place + 2])
        if (child < this.#heap.length && this.#isBefore(child, first)) first = child
      if (first === place) return
      this.#swap(place, first)
      place = first
    }
  }

  #isBefore(a: number, b: number): boolean {
    const [left, right] = [this.#heap[a], this.#heap[b]]
    if (left === undefined || right === undefined) return false
    return left.atMs < right.atMs || (left.atMs === right.atMs && left.turn < right.turn)
  }

  #swap(a: number, b: number): void {
    const [left, right] = [this.#heap[a], this.#heap[b]]
    if (left === undefined || right === undefined) return
    this.#heap[a] = right
    this.#heap[b] = left
  }
}
