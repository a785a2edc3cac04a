import type { Downward, Upward } from './sibling-messages.ts'

/** Carries questions and answers between processes, for the one that started them. It keeps nothing of them. */
export class SiblingRelay {
  readonly #ways = new Map<number, (message: Downward) => void>()

  /** From now on the process of this slot is asked; of two at one slot the later one. */
  join(slot: number, send: (message: Downward) => void): void {
    this.#ways.set(slot, send)
  }

  leave(slot: number): void {
    this.#ways.delete(slot)
  }

  /** @param from the slot of the process that said it */
  carry(from: number, message: Exclude<Upward, { kind: 'ready' }>): void {
    if (message.kind === 'answer') {
      this.#ways.get(message.to)?.({ kind: 'answer', id: message.id, body: message.body })
      return
    }
    const { id, topic, body } = message
    const asked = [...this.#ways].filter(([slot]) => slot !== from && (message.to === 'others' || slot === 0))
    this.#ways.get(from)?.({ kind: 'asked', id, count: asked.length })
    for (const [, send] of asked) send({ kind: 'question', id, from, topic, body })
  }
}
