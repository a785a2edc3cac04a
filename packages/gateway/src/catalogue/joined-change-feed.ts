import type { ChangeFeed, ChangeSubscriber } from './change-feed.ts'

/** Several feeds as one: what is announced goes to all of them, and what any of them tells is heard. */
export class JoinedChangeFeed implements ChangeFeed {
  readonly #feeds: readonly ChangeFeed[]

  constructor(feeds: readonly ChangeFeed[]) {
    this.#feeds = feeds
  }

  async announce(name: string): Promise<void> {
    await Promise.all(this.#feeds.map((feed) => feed.announce(name)))
  }

  subscribe(subscriber: ChangeSubscriber): () => void {
    const ends = this.#feeds.map((feed) => feed.subscribe(subscriber))
    return () => {
      for (const end of ends) end()
    }
  }
}
