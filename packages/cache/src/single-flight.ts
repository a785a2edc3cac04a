/** How a flight ended. */
export type Outcome<V> = { readonly ok: true; readonly value: V } | { readonly ok: false; readonly reason: unknown }

interface Flight<V> {
  readonly waiters: Set<(outcome: Outcome<V>) => void>
  readonly controller: AbortController
}

/**
 * One piece of work per key, however many wait for it. Its end is told to all waiters in one turn, each once. A waiter who
 * leaves stops nobody else's work; when the last one leaves, the work is aborted, and whoever joins after that starts anew.
 */
export class SingleFlight<K, V> {
  readonly #flights = new Map<K, Flight<V>>()

  get size(): number {
    return this.#flights.size
  }

  has(key: K): boolean {
    return this.#flights.has(key)
  }

  /**
   * @param start called at once, and only when no flight of this key is under way
   * @param settle called once, in a later turn, unless the waiter has left
   * @returns leaves the flight; idempotent, and without effect after its end
   */
  join(key: K, start: (signal: AbortSignal) => Promise<V>, settle: (outcome: Outcome<V>) => void): () => void {
    const flight = this.#flights.get(key) ?? this.#take(key, start)
    // Wrapped, so that one function may wait twice.
    const waiter = (outcome: Outcome<V>): void => settle(outcome)
    flight.waiters.add(waiter)
    return () => {
      if (!flight.waiters.delete(waiter) || flight.waiters.size > 0) return
      this.#land(key, flight)
      flight.controller.abort()
    }
  }

  /** Aborts everything and tells all waiters why. */
  failAll(reason: unknown): void {
    for (const [key, flight] of this.#flights) {
      this.#land(key, flight)
      flight.controller.abort(reason)
      end(flight, { ok: false, reason })
    }
  }

  #take(key: K, start: (signal: AbortSignal) => Promise<V>): Flight<V> {
    const flight: Flight<V> = { waiters: new Set(), controller: new AbortController() }
    this.#flights.set(key, flight)
    const land = (outcome: Outcome<V>): void => {
      this.#land(key, flight)
      end(flight, outcome)
    }
    start(flight.controller.signal).then(
      (value) => land({ ok: true, value }),
      (reason: unknown) => land({ ok: false, reason }),
    )
    return flight
  }

  /** Only the flight's own entry: after an abort the key may belong to a newer flight. */
  #land(key: K, flight: Flight<V>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
  }
}

function end<V>({ waiters }: Flight<V>, outcome: Outcome<V>): void {
  const told = [...waiters]
  waiters.clear()
  for (const settle of told) settle(outcome)
}
