import { type Clock, ServingError, toServingError } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { LoadGate } from '../load-gate.ts'
import { NegativeCache } from '../negative-cache.ts'

/** Resolutions remembered; each costs some 500 bytes. */
const REMEMBERED = 10_000
/** Questions asked of an origin at once; more wait their turn. */
const ASKED_AT_ONCE = 16

interface Known<V> {
  readonly value: V
  readonly untilMs: number
}

/**
 * What an origin has answered lately, for a bounded time, so that a popular adapter is not looked up for every request. Of many that
 * ask the same at the same time one asks the origin. A failure is remembered for seconds.
 */
export class ResolutionMemory<V extends object> {
  readonly #clock: Clock
  readonly #keepMs: number
  readonly #known = new LRUCache<string, Known<V>>({ max: REMEMBERED })
  readonly #failures: NegativeCache<string>
  readonly #asking = new Map<string, Promise<V>>()
  readonly #gate = new LoadGate(ASKED_AT_ONCE, () => true)

  /** @param keepMs how long an answer is believed */
  constructor(clock: Clock, keepMs: number) {
    this.#clock = clock
    this.#keepMs = keepMs
    this.#failures = new NegativeCache(clock)
  }

  /** @throws ServingError what `ask` throws, or threw a moment ago */
  async get(key: string, ask: () => Promise<V>): Promise<V> {
    const known = this.#known.get(key)
    if (known !== undefined && known.untilMs > this.#clock.nowMs()) return known.value
    const failure = this.#failures.get(key)
    if (failure !== undefined) throw new ServingError(failure.cause.code, failure.cause.message, failure.cause.context)
    return await (this.#asking.get(key) ?? this.#ask(key, ask))
  }

  #ask(key: string, ask: () => Promise<V>): Promise<V> {
    const answer = this.#gate.run(new AbortController().signal, ask).then(
      (value) => {
        this.#failures.succeeded(key)
        this.#known.set(key, { value, untilMs: this.#clock.nowMs() + this.#keepMs })
        return value
      },
      (thrown: unknown) => {
        this.#known.delete(key)
        this.#failures.failed(key, toServingError(thrown))
        throw thrown
      },
    )
    this.#asking.set(key, answer)
    // Both ways, and without a second rejection that nobody hears of.
    const done = () => this.#asking.delete(key)
    answer.then(done, done)
    return answer
  }
}
