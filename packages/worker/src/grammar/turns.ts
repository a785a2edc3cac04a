/**
 * Many may share a thing, or one may have it alone; whoever comes first goes first, so that nobody who wants it alone waits
 * for ever.
 */
export class Turns {
  #sharing = 0
  #isAlone = false
  readonly #waiting: { readonly alone: boolean; readonly begin: () => void }[] = []

  /** Those who have it and those who wait. */
  get load(): number {
    return this.#sharing + this.#waiting.length + (this.#isAlone ? 1 : 0)
  }

  /** Resolves to what gives the turn back; to be called once. */
  share(): Promise<() => void> {
    return this.#take(false)
  }

  alone(): Promise<() => void> {
    return this.#take(true)
  }

  #take(alone: boolean): Promise<() => void> {
    return new Promise((resolve) => {
      this.#waiting.push({ alone, begin: () => resolve(() => this.#giveBack(alone)) })
      this.#next()
    })
  }

  #giveBack(alone: boolean): void {
    if (alone) this.#isAlone = false
    else this.#sharing--
    this.#next()
  }

  #next(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (this.#isAlone || (first.alone && this.#sharing > 0)) return
      this.#waiting.shift()
      if (first.alone) this.#isAlone = true
      else this.#sharing++
      first.begin()
    }
  }
}
