import { nextTurn } from '../turns.ts'

/** Elements looked at before the event loop gets a turn: a quarter of a millisecond of work, several before it is compiled. */
const ELEMENTS_PER_TURN = 25_000

/** Cuts long loops into slices, and gives the event loop a turn whenever enough was done since the last one. */
export class Slices {
  readonly #signal: AbortSignal
  #done = 0

  /** @param signal its reason is thrown between slices once it is aborted */
  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  /**
   * Calls `work` for consecutive ranges [from, to) that cover [0, length), in ascending order.
   * @param cost elements that one index stands for
   */
  async over(length: number, cost: number, work: (from: number, to: number) => void): Promise<void> {
    const step = Math.max(1, Math.floor(ELEMENTS_PER_TURN / cost))
    for (let from = 0; from < length; from += step) {
      const to = Math.min(length, from + step)
      work(from, to)
      this.#done += (to - from) * cost
      if (this.#done >= ELEMENTS_PER_TURN) await this.#turn()
    }
  }

  async #turn(): Promise<void> {
    this.#done = 0
    await nextTurn()
    this.#signal.throwIfAborted()
  }
}
