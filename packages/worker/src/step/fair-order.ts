/**
 * The order in which prompts are computed and waiting sequences served, from the counters of the service that everybody has had.
 *
 * Every prompt gets a start tag: its tenant's counter, and what those of the same tenant that stand before it will cost, over the
 * tenant's weight. Whoever has the least tag is next, whatever tenant it is of. A prompt that runs has the counter alone before it; one that
 * waits, also what the tenant's running prompts have still to be charged. Among equal tags goes first who has fewer places.
 *
 * Within a tenant, waiting sequences are ordered by priority, then those whose deadline is near, then by the counters of their
 * adapters in the same way, then by arrival. So neither a priority nor a deadline moves anybody ahead of another tenant.
 *
 * Where more adapters are wanted than there are slots, serving the least counter every time would change adapters at every request. There
 * tags count in turns of `TURN_TOKENS`: among those of one turn, who finds its adapter in a slot goes first, but overtakes nobody who
 * has waited for `OVERTAKEN_MS`. A tag in a later turn never goes first.
 */
import type { AdapterDigest, Priority } from '@quiver/protocol'
import { flowOf, type TenantService } from './service-ledger.ts'
import type { RunningView, StepView, WaitingView } from './step-plan.ts'
import { promptMs, type StepPace } from './step-times.ts'

/** Four requests of 128 prompt tokens and 64 of an answer: a load is a small part of what it is for. In virtual tokens. */
export const TURN_TOKENS = 1_024
/** Nobody is passed by for longer because another's adapter is in a slot. */
export const OVERTAKEN_MS = 2_000
/** Waiting so long is worth one step of priority, so that a tenant's low requests are served while its high ones keep coming. */
const PRIORITY_STEP_MS = 10_000
/** A deadline is near in the last quarter of the time that the request was given. */
const NEAR_SHARE = 1 / 4

const classes: Readonly<Record<Priority, number>> = { low: 0, normal: 1, high: 2 }

type Unit = RunningView | WaitingView

export interface OrderInput {
  readonly view: StepView
  /** Live ones. */
  readonly running: readonly RunningView[]
  readonly waiting: readonly WaitingView[]
}

interface Tagged {
  readonly unit: Unit
  readonly turn: number
  /** 0: runs or its adapter is in a slot, or it has waited long; 1: those go first within a turn. */
  readonly behind: 0 | 1
  readonly tag: number
  /** Places that its tenant will have before it gets one. */
  readonly places: number
  readonly arrival: number
}

/** All prompts that are not computed yet: of running sequences the rest, of waiting ones the whole. Same input, same order. */
export function fairOrder({ view, running, waiting }: OrderInput): Unit[] {
  const prompts = running.filter(({ computed, promptLength }) => computed < promptLength)
  if (prompts.length + waiting.length < 2) return [...prompts, ...waiting]
  const inSlot = new Set(view.slots.flatMap((slot) => (slot.state === 'free' ? [] : [slot.digest])))
  const turnTokens = isCrowded(view.slots.length, [...running, ...waiting]) ? TURN_TOKENS : Number.POSITIVE_INFINITY
  const services = new Map((view.tenants ?? []).map((service) => [service.tenant, service]))
  const places = countBy(running, ({ client }) => client.tenant)
  const arrivals = new Map(waiting.map(({ sequence }, index) => [sequence, index]))
  const context: TagContext = { nowMs: view.nowMs, inSlot, turnTokens, pace: view.pace, arrivals }
  const [promptsOf, waitingOf] = [groupBy(prompts), groupBy(waiting)]
  const tagged: Tagged[] = []
  for (const tenant of new Set([...promptsOf.keys(), ...waitingOf.keys()])) {
    const service = services.get(tenant) ?? { tenant, weight: 1, level: 0, flows: [] }
    const own = { service, prompts: promptsOf.get(tenant) ?? [], waiting: waitingOf.get(tenant) ?? [] }
    tagged.push(...tagsOf(own, places.get(tenant) ?? 0, context))
  }
  return tagged
    .sort((a, b) => a.turn - b.turn || a.behind - b.behind || a.tag - b.tag || a.places - b.places || a.arrival - b.arrival)
    .map(({ unit }) => unit)
}

interface TagContext {
  readonly nowMs: number
  readonly inSlot: ReadonlySet<AdapterDigest>
  /** Infinite while slots are enough for all. */
  readonly turnTokens: number
  readonly pace: StepPace | undefined
  /** Place in the order of arrival. */
  readonly arrivals: ReadonlyMap<number, number>
}

interface OfTenant {
  readonly service: TenantService
  /** In the order of admission. */
  readonly prompts: readonly RunningView[]
  /** In the order of arrival. */
  readonly waiting: readonly WaitingView[]
}

function tagsOf({ service, prompts, waiting }: OfTenant, places: number, context: TagContext): Tagged[] {
  const { arrivals, turnTokens } = context
  let [tag, turn, behind] = [service.level, turnOf(service.level, turnTokens), 0 as 0 | 1]
  const tags: Tagged[] = []
  const add = (unit: Unit, held: number, isBehind: boolean, arrival: number): void => {
    const own = turnOf(tag, turnTokens)
    // Whoever is ordered behind another one of its tenant stays there.
    if (own > turn) behind = 0
    turn = own
    if (isBehind) behind = 1
    tags.push({ unit, turn, behind, tag, places: held, arrival })
    tag += costOf(unit) / service.weight
  }
  for (const prompt of prompts) add(prompt, places, false, -1)
  for (const [index, waiter] of inTenant(service, waiting, context).entries()) {
    add(waiter, places + index, isBehindOthers(waiter, context), arrivals.get(waiter.sequence) ?? 0)
  }
  return tags
}

/** A tenant's own order. */
function inTenant({ flows }: TenantService, waiting: readonly WaitingView[], context: TagContext): WaitingView[] {
  if (waiting.length < 2) return [...waiting]
  const levels = new Map(flows.map(({ flow, level }) => [flow, level]))
  const ranked = waiting.map((waiter) => {
    const flow = flowOf(waiter.adapter)
    const level = levels.get(flow) ?? 0
    levels.set(flow, level + costOf(waiter))
    const near = isNear(waiter, context) ? waiter.deadlineAtMs : Number.POSITIVE_INFINITY
    const turn = turnOf(level, context.turnTokens)
    return { waiter, rank: classOf(waiter, context.nowMs), near, turn, behind: isBehindOthers(waiter, context) ? 1 : 0, level }
  })
  ranked.sort(
    (a, b) => b.rank - a.rank || ascending(a.near, b.near) || a.turn - b.turn || a.behind - b.behind || a.level - b.level,
  )
  return ranked.map(({ waiter }) => waiter)
}

/** What is still to be charged for the prompt. One that cannot run yet costs those behind it nothing. */
function costOf(unit: Unit): number {
  if ('computed' in unit) return unit.promptLength - unit.computed
  return unit.adapter.kind === 'adapter' && unit.adapter.state === 'arriving' ? 0 : unit.tokens.length - (unit.cached ?? 0)
}

function turnOf(level: number, turnTokens: number): number {
  return turnTokens === Number.POSITIVE_INFINITY ? 0 : Math.floor(level / turnTokens)
}

function isBehindOthers({ adapter, arrivedAtMs }: WaitingView, { inSlot, nowMs, turnTokens }: TagContext): boolean {
  if (turnTokens === Number.POSITIVE_INFINITY || adapter.kind === 'base') return false
  return !inSlot.has(adapter.digest) && nowMs - arrivedAtMs < OVERTAKEN_MS
}

function classOf({ client, arrivedAtMs }: WaitingView, nowMs: number): number {
  return Math.min(classes.high, classes[client.priority] + Math.floor((nowMs - arrivedAtMs) / PRIORITY_STEP_MS))
}

/** Its deadline is near, and can still be kept as far as its prompt goes. */
function isNear({ deadlineAtMs, arrivedAtMs, tokens }: WaitingView, { nowMs, pace }: TagContext): boolean {
  const leftMs = deadlineAtMs - nowMs
  if (leftMs >= NEAR_SHARE * (deadlineAtMs - arrivedAtMs)) return false
  return pace === undefined || promptMs(pace, tokens.length) < leftMs
}

/** More adapters are wanted than there are slots. */
function isCrowded(slots: number, units: readonly Unit[]): boolean {
  const wanted = new Set<AdapterDigest>()
  for (const { adapter } of units) if (adapter.kind === 'adapter') wanted.add(adapter.digest)
  return wanted.size > slots
}

function groupBy<T extends Unit>(units: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const unit of units) {
    const group = groups.get(unit.client.tenant)
    if (group === undefined) groups.set(unit.client.tenant, [unit])
    else group.push(unit)
  }
  return groups
}

export function countBy<T>(items: readonly T[], key: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1)
  return counts
}

/** Also of infinities, whose difference is no number. */
function ascending(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1
}
