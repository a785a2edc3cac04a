import type { AdapterDigest } from '@quiver/protocol'

/**
 * Tells who listens that an adapter may be somewhere else now. Where it is they ask the cache, when they want to know: so no
 * order of changes in several tiers can leave them with an old answer.
 */
export class PresenceWatch {
  readonly #listeners = new Set<(digest: AdapterDigest) => void>()

  /** @returns ends the listening */
  listen(listener: (digest: AdapterDigest) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Called in the turn of the change; listeners neither throw nor wait. */
  readonly changed = (digest: AdapterDigest): void => {
    for (const listener of this.#listeners) listener(digest)
  }
}
