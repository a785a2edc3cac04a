/**
 * Takes leases, with a budget of loads for each tenant: so many of its adapters may be on their way at once, further ones wait for these.
 * Who asks for a thousand cold adapters then has the network, the disk and the memory of a few, and nobody else waits behind them.
 */
import type { AdapterCache, AdapterIdentity, AdapterLease } from '@quiver/cache'
import type { Clock } from '@quiver/protocol'
import { inTime, type TimeLimit } from './time-limit.ts'
import type { Timers } from './timers.ts'

export interface AdapterLeasesDeps {
  readonly cache: Pick<AdapterCache, 'lease' | 'residency'>
  readonly clock: Clock
  readonly timers: Timers
  /** Loads of one tenant at once, at least 1. */
  readonly loadsAtOnce: number
}

export interface Wanting {
  readonly tenant: string
  /** The client's leaving. */
  readonly signal: AbortSignal
  readonly limit: TimeLimit
}

interface Budget {
  underWay: number
  readonly queue: (() => void)[]
}

export class AdapterLeases {
  readonly #deps: AdapterLeasesDeps
  /** Only of tenants with loads under way. */
  readonly #budgets = new Map<string, Budget>()

  constructor(deps: AdapterLeasesDeps) {
    this.#deps = deps
  }

  /**
   * The caller owns the lease from the turn on in which this resolves. An adapter that is in a tier, or on its way for somebody
   * else, costs no load and does not wait.
   * @throws ServingError the limit's, or `client_closed`
   */
  async take(identity: AdapterIdentity, wanting: Wanting): Promise<AdapterLease> {
    const { cache } = this.#deps
    if (cache.residency(identity.digest).state !== 'absent') return cache.lease(identity)
    const end = await this.#turn(wanting)
    const lease = cache.lease(identity)
    lease.ready.then(end, end)
    return lease
  }

  async #turn({ tenant, signal, limit }: Wanting): Promise<() => void> {
    const budget = this.#budgets.get(tenant) ?? { underWay: 0, queue: [] }
    this.#budgets.set(tenant, budget)
    if (budget.underWay < this.#deps.loadsAtOnce) budget.underWay += 1
    else {
      const turn = Promise.withResolvers<void>()
      budget.queue.push(turn.resolve)
      try {
        await inTime(turn.promise, signal, limit, this.#deps)
      } catch (thrown) {
        const index = budget.queue.indexOf(turn.resolve)
        if (index >= 0) budget.queue.splice(index, 1)
        // Its turn came in the same moment: it goes on to the next one.
        else this.#end(tenant, budget)
        throw thrown
      }
    }
    return () => this.#end(tenant, budget)
  }

  #end(tenant: string, budget: Budget): void {
    const next = budget.queue.shift()
    if (next !== undefined) next()
    else {
      budget.underWay -= 1
      if (budget.underWay === 0) this.#budgets.delete(tenant)
    }
  }
}
