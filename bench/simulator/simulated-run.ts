/** One request inside a simulated worker, and how the planner sees it. */
import type { AdapterDigest, SequenceId } from '@quiver/protocol'
import { flowOf, type SequenceClient } from '../../packages/worker/src/step/service-ledger.ts'
import type { RunningView, WaitingView } from '../../packages/worker/src/step/step-plan.ts'
import type { Want } from './simulated-tiers.ts'

export interface SimulatedRequest {
  /** Absent: everybody's. */
  readonly tenant?: string
  /** Absent for the base model. */
  readonly adapter?: AdapterDigest
  readonly bytes: number
  readonly promptTokens: number
  readonly newTokens: number
  /** Time from its coming to the worker until it is given up. */
  readonly deadlineMs: number
}

/** How a run ends, as far as its worker can say. */
export type RunEnd = 'done' | 'cancelled' | 'expired' | 'failed' | 'lost'

/** What the worker says of one run; after `ended` nothing. */
export interface RunListener {
  accepted(): void
  /** @param weights digest of the weights that it was computed with */
  token(weights: AdapterDigest | undefined): void
  ended(end: RunEnd): void
}

export interface Run {
  readonly request: SimulatedRequest
  readonly listener: RunListener
  readonly sequence: SequenceId
  readonly client: SequenceClient
  readonly flow: string
  readonly arrivedAtMs: number
  readonly deadlineAtMs: number
  readonly tokens: number[]
  computed: number
  fate: 'live' | 'cancelled' | 'failed'
  adapter: Want | undefined
}

/** For whom a request runs, as the counters name it. */
export function partyOf({ tenant = 'default', adapter }: SimulatedRequest): Pick<Run, 'client' | 'flow'> {
  const flow = flowOf(adapter === undefined ? { kind: 'base' } : { kind: 'adapter', digest: adapter })
  return { client: { tenant, weight: 1, priority: 'normal' }, flow }
}

function sequenceView({ client, sequence, tokens, request, fate, deadlineAtMs }: Run) {
  return {
    sequence,
    client,
    deadlineAtMs,
    fate,
    tokens,
    promptLength: request.promptTokens,
    top: 1,
    promptDetails: false,
    embeds: false,
  }
}

export function runningView(run: Run): RunningView {
  const slot = run.adapter?.slot
  const adapter = slot === undefined ? ({ kind: 'base' } as const) : ({ kind: 'adapter', ...slot } as const)
  return { ...sequenceView(run), computed: run.computed, adapter }
}

export function waitingView(run: Run): WaitingView {
  const view = { ...sequenceView(run), arrivedAtMs: run.arrivedAtMs, arrivesByMs: Number.POSITIVE_INFINITY }
  const digest = run.request.adapter
  if (digest === undefined) return { ...view, adapter: { kind: 'base' } }
  return { ...view, adapter: { kind: 'adapter', digest, state: run.adapter?.isReady ? 'ready' : 'arriving' } }
}
