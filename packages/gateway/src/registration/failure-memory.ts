import type { AdapterName, ErrorCode, ServingError } from '@quiver/protocol'

export interface Failure {
  /** ISO 8601, UTC. */
  readonly at: string
  readonly code: ErrorCode
  readonly message: string
}

/** Names that are remembered, and how many failures of each. */
const NAMES = 1000
const PER_NAME = 5

/** The last failures of each name, the newest first; of this process alone, and forgotten with it. */
export class FailureMemory {
  readonly #failures = new Map<AdapterName, readonly Failure[]>()

  note(name: AdapterName, { code, message }: ServingError, at: Date): void {
    if (code === 'client_closed') return
    const before = this.of(name)
    this.#failures.delete(name)
    this.#failures.set(name, [{ at: at.toISOString(), code, message }, ...before].slice(0, PER_NAME))
    const [oldest] = this.#failures.keys()
    if (this.#failures.size > NAMES && oldest !== undefined) this.#failures.delete(oldest)
  }

  of(name: AdapterName): readonly Failure[] {
    return this.#failures.get(name) ?? []
  }
}
