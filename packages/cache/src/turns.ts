/**
 * Turns of the event loop for work that is cut into slices. Everybody who waits gets one, but only one of them in each turn: sixteen
 * loads that each took a slice a turn would be a pause of sixteen slices for all who stream.
 */
export class Turns {
  readonly #waiting: (() => void)[] = []
  #isPlanned = false

  /** Resolves in a later turn of the event loop, after whoever asked before. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#plan()
    })
  }

  #plan(): void {
    if (this.#isPlanned || this.#waiting.length === 0) return
    this.#isPlanned = true
    setImmediate(() => {
      this.#isPlanned = false
      this.#waiting.shift()?.()
      this.#plan()
    })
  }
}

/** One queue for the process, as its event loop is one. */
const turns = new Turns()

/** Lets everything else happen before the next slice of this work. */
export function nextTurn(): Promise<void> {
  return turns.next()
}
