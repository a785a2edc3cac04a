import type { WorkerState } from '@quiver/protocol'
import type { MemberState, PoolMember } from './pool-member.ts'

/** One worker as an operator sees it. */
export interface WorkerReport {
  /** Of its process; undefined before it was ever reached. */
  readonly id: string | undefined
  readonly address: string
  readonly base: string | undefined
  /** `ejected`: it gets no requests for a while because of how it answered. */
  readonly state: MemberState | 'ejected'
  readonly running: number
  readonly waiting: number
  /** Prompt tokens a second. */
  readonly tokensPerSecond: number | undefined
  /** Undefined while it does not answer. */
  readonly details: WorkerState | undefined
}

/** What is known of a worker, and what it says of itself if it does. Never rejects. */
export async function reportWorker(member: PoolMember, isEjected: boolean, signal: AbortSignal): Promise<WorkerReport> {
  const { address, client, view, state } = member
  const isAnswering = state === 'ready' || state === 'draining'
  return {
    id: client?.info.workerId,
    address,
    base: client?.info.model.id,
    state: state === 'ready' && isEjected ? 'ejected' : state,
    running: view?.load.running ?? 0,
    waiting: view?.load.waiting ?? 0,
    tokensPerSecond: view?.tokensPerSecond,
    details: isAnswering ? await client?.state(signal).catch(() => undefined) : undefined,
  }
}
