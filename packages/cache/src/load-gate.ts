/**
 * Lets only so many loads run at once, oldest first. Loads also wait while leased adapters fill the RAM budget: weights
 * that nobody can admit yet would only push memory up.
 */
export class LoadGate {
  readonly #limit: number
  readonly #hasRoom: () => boolean
  readonly #waiting: Set<() => void> = new Set()
  #running = 0

  /** @param hasRoom asked before each start */
  constructor(limit: number, hasRoom: () => boolean) {
    this.#limit = limit
    this.#hasRoom = hasRoom
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** Runs `work` when it is its turn; rejects with the signal's reason when aborted before. */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#turn(signal)
    try {
      return await work()
    } finally {
      this.#running -= 1
      this.wake()
    }
  }

  /** Starts what may start now; called by whoever makes room. */
  wake(): void {
    for (const start of this.#waiting) {
      if (!this.#mayStart()) return
      this.#waiting.delete(start)
      this.#running += 1
      start()
    }
  }

  #mayStart(): boolean {
    return this.#running < this.#limit && this.#hasRoom()
  }

  async #turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const leave = (): void => {
      if (this.#waiting.delete(resolve)) reject(signal.reason)
    }
    signal.addEventListener('abort', leave, { once: true })
    this.#waiting.add(resolve)
    this.wake()
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }
}
