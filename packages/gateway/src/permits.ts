import { ServingError } from '@quiver/protocol'

/** Bounds how many requests are in the house at once; one more is refused, not queued. */
export class Permits {
  readonly #most: number
  #taken = 0

  /** @param most bounds every limit below; 0 bounds none */
  constructor(most = 0) {
    this.#most = most
  }

  /** The limit that is in force where `limit` is asked for. */
  bounded(limit: number): number {
    return this.#most === 0 ? limit : Math.min(limit, this.#most)
  }

  /**
   * @param wanted the most that may be out, this one included
   * @returns gives the permit back; calling it again does nothing
   * @throws ServingError `overloaded`
   */
  take(wanted: number): () => void {
    const limit = this.bounded(wanted)
    if (this.#taken >= limit) throw new ServingError('overloaded', 'too many requests at once', { limit })
    this.#taken++
    let held = true
    return () => {
      if (held) this.#taken--
      held = false
    }
  }

  get taken(): number {
    return this.#taken
  }
}
