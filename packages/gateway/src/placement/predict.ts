import type { PlacementRules } from './placement-rules.ts'
import type { PlacementRequest, Presence, WorkerView } from './worker-view.ts'

/** Why a candidate is predicted to be as slow as it is, in ms. */
export interface PlacementTerms {
  /** Until the worker has computed the prompts that came before, and this one. */
  readonly prefillMs: number
  /** Until the batch has a place. */
  readonly placeMs: number
  /** Until the adapter is in the device; it loads while the request waits, so only what is longer than the wait counts. */
  readonly loadMs: number
  /** What others lose by the eviction that the load causes. */
  readonly harmMs: number
}

/**
 * The time to the first token, and what it costs others:
 * max(waiting, load) + own prefill + harm, where waiting is the queue's prefill and the wait for a place in the batch.
 */
export function predict(
  request: PlacementRequest,
  worker: WorkerView,
  presence: Presence,
  { harmSeconds }: PlacementRules,
): PlacementTerms {
  const queueMs = (worker.queuedTokens / worker.tokensPerSecond) * 1000
  const placeMs = Math.max(0, worker.requests + 1 - worker.sequences) * worker.turnoverMs
  const ownMs = (request.promptTokens / worker.tokensPerSecond) * 1000
  const isThere = request.adapter === undefined || presence === 'device'
  const slotMs = isThere || presence === 'arriving' || worker.hasSlotToGive ? 0 : worker.turnoverMs
  const arrivalMs = isThere ? 0 : worker.loadMs(presence, request.bytes) + slotMs
  const evicts = !isThere && presence !== 'arriving' && worker.freeSlots === 0
  return {
    prefillMs: queueMs + ownMs,
    placeMs,
    loadMs: Math.max(0, arrivalMs - queueMs - placeMs),
    harmMs: evicts ? worker.victim.requestsPerSecond * harmSeconds * worker.victim.reloadMs : 0,
  }
}

/** What candidates are compared by. */
export function predictedMs({ prefillMs, placeMs, loadMs, harmMs }: PlacementTerms): number {
  return prefillMs + placeMs + loadMs + harmMs
}
