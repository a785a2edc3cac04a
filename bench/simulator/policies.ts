/** Ways of choosing a worker that others use, to compare ours with. Each knows what its original knows, no more. */

import { place } from '../../packages/gateway/src/placement/place.ts'
import { type PlacementRules, placementRules } from '../../packages/gateway/src/placement/placement-rules.ts'
import { hashText, rendezvousWeight } from '../../packages/gateway/src/placement/rendezvous.ts'
import type { PlacementRequest, WorkerView } from '../../packages/gateway/src/placement/worker-view.ts'
import { drawBelow, type Random } from '../shared/random.ts'

export interface ChoiceView extends WorkerView {
  readonly waiting: number
  readonly slots: number
  /** Distinct adapters of the requests that run there, and of those that wait there. */
  readonly runningAdapters: ReadonlySet<string>
  readonly waitingAdapters: ReadonlySet<string>
}

export type Choose = (request: PlacementRequest, workers: readonly ChoiceView[]) => ChoiceView | undefined

export type PolicyName =
  | 'quiver'
  | 'random'
  | 'round robin'
  | 'least loaded'
  | 'rendezvous'
  | 'bounded loads'
  | 'lora affinity (GIE)'

export function policies(random: Random, rules: PlacementRules = placementRules): Readonly<Record<PolicyName, () => Choose>> {
  return {
    quiver: () => (request, workers) => {
      const chosen = place(request, workers, rules)?.worker.id
      return workers.find(({ id }) => id === chosen)
    },
    random: () => (_, workers) => accepting(workers)[drawBelow(random, accepting(workers).length)],
    'round robin': () => {
      let turn = 0
      return (_, workers) => {
        const open = accepting(workers)
        turn += 1
        return open[turn % open.length]
      }
    },
    'least loaded': () => (_, workers) => best(accepting(workers), ({ requests, sequences }) => -requests / sequences, random),
    rendezvous: () => (request, workers) => best(accepting(workers), weightFor(request), random),
    'bounded loads': () => (request, workers) => {
      const open = accepting(workers)
      const bound = Math.ceil((1.25 * (open.reduce((sum, { requests }) => sum + requests, 0) + 1)) / open.length)
      return best(
        open.filter(({ requests }) => requests + 1 <= bound),
        weightFor(request),
        random,
      )
    },
    'lora affinity (GIE)': () => (request, workers) => {
      const open = accepting(workers)
      return best(open, (worker) => affinity(request.adapter, worker) + queueScore(worker, open), random)
    },
  }
}

/**
 * The Gateway API Inference Extension's lora-affinity-scorer: 1 where the adapter is among those of running requests, 0.8 where there is
 * room for one more, 0.6 where it is among those of waiting requests, else 0.
 */
function affinity(adapter: string | undefined, { runningAdapters, waitingAdapters, slots }: ChoiceView): number {
  if (adapter === undefined || runningAdapters.has(adapter)) return 1
  if (runningAdapters.size + waitingAdapters.size < slots) return 0.8
  return waitingAdapters.has(adapter) ? 0.6 : 0
}

/** Its queue-scorer: 1 for the shortest queue, 0 for the longest, added with equal weight. */
function queueScore({ waiting }: ChoiceView, workers: readonly ChoiceView[]): number {
  const queues = workers.map((worker) => worker.waiting)
  const [least, most] = [Math.min(...queues), Math.max(...queues)]
  return most === least ? 1 : (most - waiting) / (most - least)
}

function weightFor({ adapter }: PlacementRequest): (worker: ChoiceView) => number {
  const key = hashText(adapter ?? '')
  return ({ hash }) => rendezvousWeight(key, hash)
}

function accepting(workers: readonly ChoiceView[]): readonly ChoiceView[] {
  return workers.filter(({ accepts }) => accepts)
}

/** The highest score; one of them drawn where several have it. */
function best(workers: readonly ChoiceView[], score: (worker: ChoiceView) => number, random: Random): ChoiceView | undefined {
  const scored = workers.map((worker) => ({ worker, score: score(worker) }))
  const highest = scored.reduce((most, { score: one }) => Math.max(most, one), Number.NEGATIVE_INFINITY)
  const equals = scored.filter(({ score: one }) => one === highest)
  return equals[drawBelow(random, equals.length)]?.worker
}
