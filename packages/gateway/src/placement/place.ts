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

export interface Candidate extends Standing {
  readonly terms: PlacementTerms
  readonly predictedMs: number
}

/** How a worker stands to what is to be placed, before anything is predicted. */
interface Standing {
  readonly worker: WorkerView
  readonly presence: Presence
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
  const perSequence = loadBound(workers, rules)
  const key = adapter === undefined ? undefined : hashText(adapter)
  const holders: Standing[] = []
  const newcomers: Standing[] = []
  for (const worker of workers) {
    if (!worker.accepts) continue
    const { requests, sequences } = worker
    const presence = adapter === undefined ? 'device' : worker.presence(adapter)
    const weight = key === undefined ? -requests / sequences : rendezvousWeight(key, worker.hash)
    const standing = { worker, presence, weight, isAboveBound: requests + 1 > Math.ceil(perSequence * sequences) }
    if (isHeld(presence)) holders.push(standing)
    else insert(newcomers, standing, rules.newcomers)
  }
  return [...holders, ...newcomers].map((standing) => {
    const terms = predict(request, standing.worker, standing.presence, rules)
    return { ...standing, terms, predictedMs: predictedMs(terms) }
  })
}

/** Requests that a worker may have for each of its sequences before it is above the bound, the one to be placed among them. */
function loadBound(workers: readonly WorkerView[], rules: PlacementRules): number {
  let requests = 1
  let sequences = 0
  for (const worker of workers) {
    if (!worker.accepts) continue
    requests += worker.requests
    sequences += worker.sequences
  }
  return (rules.loadBound * requests) / sequences
}

/** Keeps the first `most` of a rising order; there are few, and many that do not get in. */
function insert(ordered: Standing[], standing: Standing, most: number): void {
  let place = ordered.length
  while (place > 0 && compareNewcomers(standing, ordered[place - 1] ?? standing) < 0) place -= 1
  if (place >= most) return
  ordered.splice(place, 0, standing)
  ordered.length = Math.min(ordered.length, most)
}

function compareNewcomers(a: Standing, b: Standing): number {
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

function kindOf({ presence }: Candidate, candidates: readonly Candidate[]): PlacementKind {
  if (isHeld(presence)) return 'resident'
  if (candidates.some((candidate) => isHeld(candidate.presence))) return 'spill'
  return presence === 'absent' ? 'cold' : presence
}
