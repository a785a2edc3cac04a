import type { TimerClock } from '../clock.ts'
import { downwardSchema, type Upward } from './sibling-messages.ts'

/** How long answers are waited for: a process that stands still must not hold up the others. */
const PATIENCE_MS = 1_000

/** The way to the process that started this one. */
export interface SiblingChannel {
  send(message: Upward): void
  /** @param listener is given what comes, as it came */
  listen(listener: (message: unknown) => void): void
}

interface Question {
  readonly bodies: unknown[]
  /** Undefined until it is known how many were asked. */
  count: number | undefined
  readonly settle: () => void
}

/** The other processes of this gateway, as one of them sees them. They share a port and nothing else. */
export class Siblings {
  /** 0 … `count` − 1, the same for whoever takes this process's place. */
  readonly slot: number
  /** How many processes there should be, this one included. */
  readonly count: number
  readonly #channel: SiblingChannel
  readonly #clock: TimerClock
  readonly #handlers = new Map<string, (body: unknown) => unknown>()
  /** Each is gone after PATIENCE_MS at the latest. */
  readonly #questions = new Map<number, Question>()
  #asked = 0

  constructor(place: { readonly slot: number; readonly count: number }, channel: SiblingChannel, clock: TimerClock) {
    this.slot = place.slot
    this.count = place.count
    this.#channel = channel
    this.#clock = clock
    channel.listen((message) => this.#hear(message))
  }

  /** One of them does what must be done once. */
  get isFirst(): boolean {
    return this.slot === 0
  }

  ready(url: string): void {
    this.#channel.send({ kind: 'ready', url })
  }

  /** What to say when a sibling asks this. A handler that throws has not answered. */
  answer(topic: string, handler: (body: unknown) => unknown): void {
    this.#handlers.set(topic, handler)
  }

  /** The answers of those who have answered within a second, in no order. Never rejects. */
  async ask(topic: string, body: unknown, to: 'others' | 'first' = 'others'): Promise<readonly unknown[]> {
    const id = this.#asked++
    const settled = Promise.withResolvers<void>()
    const question: Question = { bodies: [], count: undefined, settle: settled.resolve }
    this.#questions.set(id, question)
    const stop = this.#clock.after(PATIENCE_MS, settled.resolve)
    this.#channel.send({ kind: 'question', id, to, topic, body })
    await settled.promise
    stop()
    this.#questions.delete(id)
    return question.bodies.filter((answer) => answer !== undefined)
  }

  #hear(raw: unknown): void {
    const parsed = downwardSchema.safeParse(raw)
    // Node's own messages use the channel too.
    if (!parsed.success) return
    const message = parsed.data
    if (message.kind === 'question') {
      void this.#reply(message.topic, message.body).then((body) =>
        this.#channel.send({ kind: 'answer', id: message.id, to: message.from, body }),
      )
      return
    }
    const question = this.#questions.get(message.id)
    if (question === undefined) return
    if (message.kind === 'asked') question.count = message.count
    else question.bodies.push(message.body)
    if (question.bodies.length === question.count) question.settle()
  }

  async #reply(topic: string, body: unknown): Promise<unknown> {
    try {
      return await this.#handlers.get(topic)?.(body)
    } catch {
      // Whoever asked goes on without it, as with one that is not there.
      return undefined
    }
  }
}
