/** How much of one tenant may wait: one that floods is refused, long before it takes the room of all others. */
import { ServingError } from '@quiver/protocol'
import type { Sharing } from './step/service-ledger.ts'

export interface TenantLimits {
  /** Requests of one tenant that wait. */
  readonly requests: number
  /** Prompt tokens of one tenant's requests, running ones included. */
  readonly tokens: number
}

/** What is known of the worker's speed, and of how it is shared. */
export interface QueueSpeed extends Sharing {
  /** Mean time between two ends while the worker is full. */
  readonly turnoverMs: number
  readonly tokensPerSecond: number
}

/** One request's part of its tenant's queue, until `leave`. */
export interface QueueTicket {
  /** Its prompt is known. @throws ServingError `rate_limited` */
  addTokens(count: number): void
  leave(): void
}

/** Below this clients only come back in vain, above it they give up. */
const [LEAST_RETRY_S, MOST_RETRY_S] = [1, 120]

export class TenantQueues {
  readonly #limits: TenantLimits
  readonly #speedOf: (tenant: string) => QueueSpeed
  /** Only tenants that have something here. */
  readonly #queues = new Map<string, { requests: number; tokens: number }>()

  constructor(limits: TenantLimits, speedOf: (tenant: string) => QueueSpeed) {
    this.#limits = limits
    this.#speedOf = speedOf
  }

  /** @throws ServingError `rate_limited`, with `retryAfterS` in its context */
  enter(tenant: string): QueueTicket {
    const queue = this.#queues.get(tenant) ?? { requests: 0, tokens: 0 }
    const { running } = this.#speedOf(tenant)
    if (queue.requests - running >= this.#limits.requests) {
      throw this.#tooMany(tenant, `${this.#limits.requests} requests of this tenant are waiting already`)
    }
    queue.requests += 1
    this.#queues.set(tenant, queue)
    let own: number | undefined = 0
    return {
      addTokens: (count) => {
        if (own === undefined) return
        // One request alone is never too much: its length has a limit of its own.
        if (queue.tokens > 0 && queue.tokens + count > this.#limits.tokens) {
          throw this.#tooMany(tenant, `requests of this tenant with ${queue.tokens} prompt tokens are here already`)
        }
        own += count
        queue.tokens += count
      },
      leave: () => {
        if (own === undefined) return
        queue.requests -= 1
        queue.tokens -= own
        own = undefined
        if (queue.requests === 0) this.#queues.delete(tenant)
      },
    }
  }

  #tooMany(tenant: string, what: string): ServingError {
    const retryAfterS = retryAfter(this.#queues.get(tenant) ?? { requests: 0, tokens: 0 }, this.#speedOf(tenant))
    return new ServingError('rate_limited', `${what}: send fewer at once, or try again in ${retryAfterS} s`, { retryAfterS })
  }
}

/** When about half of a queue will be done, by measured speed and the share that its tenant has. In whole seconds. */
export function retryAfter(
  queue: { readonly requests: number; readonly tokens: number },
  speed: Omit<QueueSpeed, 'running'>,
): number {
  const { share, turnoverMs, tokensPerSecond } = speed
  const fullSpeedMs = Math.max(queue.requests * turnoverMs, (1_000 * queue.tokens) / tokensPerSecond)
  const seconds = Math.ceil(fullSpeedMs / Math.max(share, 0.001) / 2 / 1_000)
  return Math.min(MOST_RETRY_S, Math.max(LEAST_RETRY_S, seconds))
}
