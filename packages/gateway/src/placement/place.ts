/**
 * Chooses the worker that will answer a request first, which is nearly always one that has the adapter in its device. Pure: the
 * gateway and the simulator call the same function.
 *
 * Candidates are the workers that have the adapter, and the first few of its rendezvous order that are not above the load bound.
 * Because every gateway tries the same few in the same order, an adapter that becomes hot spreads over a stable set of workers,
 * and as it cools its requests draw back to the first of them.
 */
import type { PlacementRules } from './placement-rules.ts'
import { type PlacementTerms, predict, predictedMs } from './predict.ts'
import { hashText, rendezvousWeight } from './rendezvous.ts'
import type { PlacementRequest, Presence, WorkerView } from './worker-view.ts'

/**
 * How the chosen worker stands to the adapter: it has it in its device (or needs none), in RAM, on disk, or not at all; `spill`: it
 * has not, though another worker's device has, which is too busy.
 */
export type PlacementKind = 'resident' | 'ram' | 'disk' | 'cold' | 'spill'

export interface Candidate {
  readonly worker: WorkerView
  readonly presence: Presence
  readonly terms: PlacementTerms
  readonly predictedMs: number
  /** Above the load bound, a worker takes what it has to and no newcomer by choice. */
  readonly isAboveBound: boolean
  /** By which the usual worker is found among equals: place in the rendezvous order, or for the base model room in the batch. */
  readonly weight: number
}

export interface Placement {
  readonly worker: WorkerView
  readonly kind: PlacementKind
  /** All that were compared, the chosen one among them. */
  readonly candidates: readonly Candidate[]
}

/**
 * @param workers of the request's base model; the same set in another order gives the same choice
 * @returns undefined when no worker accepts requests
 */
export function place(request: PlacementRequest, workers: readonly WorkerView[], rules: PlacementRules): Placement | undefined {
  const candidates = findCandidates(request, workers, rules)
  const [first, ...others] = candidates
  if (first === undefined) return undefined
  const best = candidates.reduce((least, candidate) => Math.min(least, candidate.predictedMs), first.predictedMs)
  const alike = best + Math.max(rules.alikeMs, best * rules.stickiness)
  const chosen = others.reduce(
    (preferred, candidate) => (comparePreference(candidate, preferred, alike) < 0 ? candidate : preferred),
    first,
  )
  return { worker: chosen.worker, kind: kindOf(chosen, candidates), candidates }
}

/** Those who have the adapter, and as many newcomers as the rules allow: below the load bound if there are any. */
function findCandidates(request: PlacementRequest, workers: readonly WorkerView[], rules: PlacementRules): readonly Candidate[] {
  const { adapter } = request
  const accepting = workers.filter(({ accepts }) => accepts)
  const requests = sum(accepting, (worker) => worker.requests) + 1
  const sequences = sum(accepting, (worker) => worker.sequences)
  const key = adapter === undefined ? undefined : hashText(adapter)
  const all = accepting.map((worker) => ({
    worker,
    presence: adapter === undefined ? 'device' : worker.presence(adapter),
    weight: key === undefined ? -worker.requests / worker.sequences : rendezvousWeight(key, worker.hash),
    isAboveBound: worker.requests + 1 > Math.ceil((rules.loadBound * requests * worker.sequences) / sequences),
  }))
  const holders = all.filter(({ presence }) => isHeld(presence))
  const newcomers = all.filter(({ presence }) => !isHeld(presence)).sort(compareNewcomers)
  return [...holders, ...newcomers.slice(0, rules.newcomers)].map((candidate) => {
    const terms = predict(request, candidate.worker, candidate.presence, rules)
    return { ...candidate, terms, predictedMs: predictedMs(terms) }
  })
}

type Newcomer = Pick<Candidate, 'worker' | 'weight' | 'isAboveBound'>

function compareNewcomers(a: Newcomer, b: Newcomer): number {
  return Number(a.isAboveBound) - Number(b.isAboveBound) || b.weight - a.weight || compareIds(a, b)
}

/** Below 0: `a` is preferred. Among predictions that are alike: where it is already, then below the bound, then the usual one. */
function comparePreference(a: Candidate, b: Candidate, alike: number): number {
  const isFast = ({ predictedMs }: Candidate) => predictedMs <= alike
  if (!isFast(a) || !isFast(b)) return Number(isFast(b)) - Number(isFast(a)) || a.predictedMs - b.predictedMs || compareIds(a, b)
  return (
    Number(isHeld(b.presence)) - Number(isHeld(a.presence)) ||
    Number(a.isAboveBound) - Number(b.isAboveBound) ||
    b.weight - a.weight ||
    compareIds(a, b)
  )
}

function isHeld(presence: Presence): presence is 'device' | 'arriving' {
  return presence === 'device' || presence === 'arriving'
}

function compareIds(a: Pick<Candidate, 'worker'>, b: Pick<Candidate, 'worker'>): number {
  return a.worker.id < b.worker.id ? -1 : Number(a.worker.id > b.worker.id)
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}

function kindOf({ presence }: Candidate, candidates: readonly Candidate[]): PlacementKind {
  if (isHeld(presence)) return 'resident'
  if (candidates.some((candidate) => isHeld(candidate.presence))) return 'spill'
  return presence === 'absent' ? 'cold' : presence
}
