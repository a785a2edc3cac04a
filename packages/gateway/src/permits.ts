import { ServingError } from '@quiver/protocol'

/** Bounds how many requests are in the house at once; one more is refused, not queued. */
export class Permits {
  #taken = 0

  /**
   * @param limit the most that may be out, this one included
   * @returns gives the permit back; calling it again does nothing
   * @throws ServingError `overloaded`
   */
  take(limit: number): () => void {
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
