/** Says which names of the catalogue have changed, from gateway to gateway. What it loses is found by the next refresh. */
export interface ChangeFeed {
  /** Tells all subscribers, perhaps this process's own too. Never rejects; may tell nobody. */
  announce(name: string): Promise<void>
  /** @returns ends the subscription */
  subscribe(subscriber: ChangeSubscriber): () => void
}

export interface ChangeSubscriber {
  /** A name that is not necessarily one: what came over the wire. What is returned is settled when it was looked at. */
  readonly onChange: (name: string) => void | Promise<void>
  /** Changes may have been missed: everything should be looked at. */
  readonly onGap: () => void
}

/** Between the gateways of one process; for tests, and to say what a feed is. */
export class MemoryChangeFeed implements ChangeFeed {
  readonly #subscribers = new Set<ChangeSubscriber>()

  async announce(name: string): Promise<void> {
    for (const { onChange } of this.#subscribers) void onChange(name)
  }

  subscribe(subscriber: ChangeSubscriber): () => void {
    this.#subscribers.add(subscriber)
    return () => this.#subscribers.delete(subscriber)
  }
}
