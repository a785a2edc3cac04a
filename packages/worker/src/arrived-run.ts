/** A run on its way to the batch. */
import type { Grammar, RunRequest } from '@quiver/protocol'
import type { Work } from './run-work.ts'
import { adapterArriving } from './step/early-errors.ts'
import type { EventSink } from './step/sequence.ts'
import type { SequenceClient } from './step/service-ledger.ts'
import type { QueueTicket } from './tenant-queues.ts'
import type { TimeLimit } from './time-limit.ts'

export interface Arrived {
  readonly request: RunRequest
  readonly sink: EventSink
  readonly signal: AbortSignal
  readonly arrivedAtMs: number
  /** Its part of its tenant's queue; given back with the terminal event. */
  readonly ticket: QueueTicket
}

export interface Run extends Arrived, Work {
  readonly deadlineAtMs: number
  readonly arrivesByMs: number
}

export function arrivalEnd({ arrivesByMs, arrivedAtMs }: Run): TimeLimit {
  return { atMs: arrivesByMs, error: adapterArriving('the adapter', arrivesByMs - arrivedAtMs) }
}

/** An embedding has no form to keep to. */
export function grammarOf({ request, task }: Run): Grammar | undefined {
  return task.kind === 'generate' ? request.grammar : undefined
}

export function clientOf({ tenant, weight = 1, priority = 'normal' }: RunRequest): SequenceClient {
  return { tenant, weight, priority }
}

/** Gives the ticket back before the terminal event is told: whoever waits for that may send the next request at once. */
export function leavingSink(sink: EventSink, ticket: QueueTicket): EventSink {
  return {
    send(event) {
      if (event.type === 'done' || event.type === 'error') ticket.leave()
      sink.send(event)
    },
  }
}
