import type { ChangeFeed, ChangeSubscriber } from '../catalogue/change-feed.ts'
import type { Siblings } from './siblings.ts'

const TOPIC = 'changed'

/**
 * Changes between the processes of one gateway. Announcing waits until the others have looked, a second at most: who has published
 * through one process finds it with the next request, whichever process that comes to.
 */
export class SiblingChangeFeed implements ChangeFeed {
  readonly #siblings: Siblings
  readonly #subscribers = new Set<ChangeSubscriber>()

  constructor(siblings: Siblings) {
    this.#siblings = siblings
    siblings.answer(TOPIC, async (name) => {
      await this.#tell(String(name))
      return true
    })
  }

  async announce(name: string): Promise<void> {
    await this.#siblings.ask(TOPIC, name)
  }

  subscribe(subscriber: ChangeSubscriber): () => void {
    this.#subscribers.add(subscriber)
    // What changed before there was somebody to hear of it.
    subscriber.onGap()
    return () => this.#subscribers.delete(subscriber)
  }

  async #tell(name: string): Promise<void> {
    await Promise.all(Array.from(this.#subscribers, ({ onChange }) => onChange(name)))
  }
}
