/**
 * Places that are kept for tenants who are expected back. A place that a flood of one tenant has taken comes free only when an answer ends,
 * which may take as long as an answer can be. Who sends one request after another would wait that long each time.
 *
 * So while some tenant is *expected* (it was here within seconds, has less than its fair share of the places, and nothing waiting that
 * could run now), the last places, `reservedShare` of all, go only to tenants that have less than their fair share. Whoever is refused
 * such a place also keeps those behind it from it: counters decide who is served, reserved places never. With nobody expected, and
 * with one tenant alone, every place is used.
 */
import { countBy } from './fair-order.ts'
import type { RunningView, StepLimits, StepView, WaitingView } from './step-plan.ts'

export interface PlacesInput {
  readonly view: Pick<StepView, 'tenants' | 'slots'>
  /** Live ones. */
  readonly running: readonly RunningView[]
  readonly waiting: readonly WaitingView[]
  readonly limits: Pick<StepLimits, 'sequences' | 'reservedShare'>
}

export class Places {
  readonly #held: Map<string, number>
  readonly #fairShare: (tenant: string) => number
  readonly #kept: number
  #free: number
  #isClosed = false

  constructor({ view, running, waiting, limits }: PlacesInput) {
    const tenants = view.tenants ?? []
    this.#held = countBy(running, ({ client }) => client.tenant)
    this.#free = limits.sequences - running.length
    const weights = new Map(tenants.map(({ tenant, weight }) => [tenant, weight]))
    const all = tenants.reduce((sum, { weight }) => sum + weight, 0)
    this.#fairShare = (tenant) => (all === 0 ? limits.sequences : (limits.sequences * (weights.get(tenant) ?? 0)) / all)
    const reserved = Math.floor(limits.sequences * (limits.reservedShare ?? 0))
    const isKept = reserved > 0 && tenants.length > 1
    this.#kept = isKept && this.#isAnybodyExpected(tenants, view, waiting) ? reserved : 0
  }

  /** Takes a place for the tenant, unless there is none for it. */
  take(tenant: string): boolean {
    if (!this.hasRoomFor(tenant)) return false
    this.#free -= 1
    this.#held.set(tenant, this.#heldBy(tenant) + 1)
    return true
  }

  hasRoomFor(tenant: string): boolean {
    if (this.#free <= 0 || this.#isClosed) return false
    if (this.#free > this.#kept || this.#heldBy(tenant) < this.#fairShare(tenant)) return true
    this.#isClosed = true
    return false
  }

  #heldBy(tenant: string): number {
    return this.#held.get(tenant) ?? 0
  }

  #isAnybodyExpected(
    tenants: NonNullable<StepView['tenants']>,
    { slots }: PlacesInput['view'],
    waiting: readonly WaitingView[],
  ): boolean {
    const inSlot = new Set(slots.flatMap((slot) => (slot.state === 'resident' ? [slot.digest] : [])))
    const canRun = new Set(
      waiting.flatMap(({ adapter, client }) => (adapter.kind === 'base' || inSlot.has(adapter.digest) ? [client.tenant] : [])),
    )
    return tenants.some(({ tenant }) => !canRun.has(tenant) && this.#heldBy(tenant) < this.#fairShare(tenant))
  }
}
