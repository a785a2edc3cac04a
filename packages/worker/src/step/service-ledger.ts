/** Who has had how much service: a counter for each tenant, and within a tenant one for each adapter. */
import { limits, type Priority } from '@quiver/protocol'
import { type Counter, VirtualCounters } from './virtual-counters.ts'

/** For whom a sequence runs. */
export interface SequenceClient {
  readonly tenant: string
  /** The tenant's share beside others; above 0. That of its latest request counts. */
  readonly weight: number
  /** Orders a tenant's own requests, and nobody else's. */
  readonly priority: Priority
}

/** What a plan sees of a tenant: of each that has requests here, or had some lately. */
export interface TenantService {
  readonly tenant: string
  readonly weight: number
  /** Virtual tokens over weight. */
  readonly level: number
  /** The same of each of its adapters that somebody waits for. */
  readonly flows: readonly { readonly flow: string; readonly level: number }[]
}

/** A step's service to one adapter of one tenant, in virtual tokens. */
export interface Charge {
  readonly tenant: string
  readonly flow: string
  readonly tokens: number
}

export interface Sharing {
  /** How many of a tenant's sequences run. */
  readonly running: number
  /** Which share of the service it has while all who wait now go on waiting, 0 … 1. */
  readonly share: number
}

/** A tenant's totals, for who watches. */
export interface TenantTotals {
  /** The empty one stands for all that have no name here. */
  readonly tenant: string
  readonly waiting: number
  readonly running: number
  /** Virtual tokens since the start. */
  readonly servedTokens: number
}

/** A tenant without requests still counts as present for so long: a place is kept for its next one. */
const PRESENT_MS = 5_000

/** The adapter of a sequence, or the base model, as the counters name it. */
export function flowOf(adapter: { readonly kind: 'base' } | { readonly kind: 'adapter'; readonly digest: string }): string {
  return adapter.kind === 'base' ? 'base' : adapter.digest
}

export class ServiceLedger {
  readonly #flows = new Map<string, VirtualCounters>()
  /** Virtual tokens, of tenants that have a name in the totals. */
  readonly #served = new Map<string, number>()
  readonly #tenants = new VirtualCounters(limits.countedTenants, (tenant) => this.#flows.delete(tenant))

  /** A sequence begins to wait. */
  enqueue({ tenant, weight }: SequenceClient, flow: string, nowMs: number): void {
    this.#tenants.enqueue(tenant, weight, nowMs)
    this.#flowsOf(tenant).enqueue(flow, 1, nowMs)
  }

  /** A sequence that waited runs. */
  admit({ tenant }: SequenceClient, flow: string): void {
    this.#tenants.dequeue(tenant, true)
    this.#flowsOf(tenant).dequeue(flow, true)
  }

  /** A sequence has ended. */
  leave({ tenant }: SequenceClient, flow: string, was: 'waiting' | 'running'): void {
    for (const [counters, client] of [
      [this.#tenants, tenant],
      [this.#flowsOf(tenant), flow],
    ] as const) {
      if (was === 'running') counters.end(client)
      else counters.dequeue(client, false)
    }
    const counter = this.#tenants.get(tenant)
    // Fairness among adapters is for those who wait together; whoever comes back finds all alike.
    if (counter === undefined || counter.waiting + counter.running === 0) this.#flows.delete(tenant)
  }

  charge(charges: readonly Charge[], nowMs: number): void {
    for (const { tenant, flow, tokens } of charges) {
      const name = this.#nameOf(tenant)
      this.#served.set(name, (this.#served.get(name) ?? 0) + tokens)
      this.#tenants.charge(tenant, tokens, nowMs)
      this.#flowsOf(tenant).charge(flow, tokens, nowMs)
    }
  }

  view(nowMs: number): TenantService[] {
    const present: TenantService[] = []
    for (const [tenant, { level, weight, waiting, running, seenAtMs }] of this.#tenants.all()) {
      if (waiting + running === 0 && nowMs - seenAtMs >= PRESENT_MS) continue
      const flows = Array.from(this.#flows.get(tenant)?.backlogged() ?? [], ([flow, counter]) => ({ flow, level: counter.level }))
      present.push({ tenant, weight, level, flows })
    }
    return present
  }

  /** Of one tenant; undefined when it was not seen lately. */
  of(tenant: string): Counter | undefined {
    return this.#tenants.get(tenant)
  }

  sharing(tenant: string): Sharing {
    const { running = 0, weight = 1 } = this.#tenants.get(tenant) ?? {}
    let all = weight
    for (const [other, counter] of this.#tenants.backlogged()) if (other !== tenant) all += counter.weight
    return { running, share: weight / all }
  }

  /** The first tenants by name, all further ones together. */
  totals(): TenantTotals[] {
    const totals = new Map(
      Array.from(this.#served, ([tenant, servedTokens]) => [tenant, { tenant, waiting: 0, running: 0, servedTokens }]),
    )
    for (const [tenant, { waiting, running }] of this.#tenants.all()) {
      if (waiting + running === 0) continue
      const name = this.#nameOf(tenant)
      const total = totals.get(name) ?? { tenant: name, waiting: 0, running: 0, servedTokens: 0 }
      total.waiting += waiting
      total.running += running
      totals.set(name, total)
    }
    return [...totals.values()]
  }

  #nameOf(tenant: string): string {
    return this.#served.has(tenant) || this.#served.size < limits.namedTenants ? tenant : ''
  }

  #flowsOf(tenant: string): VirtualCounters {
    const known = this.#flows.get(tenant)
    if (known !== undefined) return known
    const flows = new VirtualCounters(limits.countedAdapters)
    this.#flows.set(tenant, flows)
    return flows
  }
}
