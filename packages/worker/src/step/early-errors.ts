/** What those are told who end before their work is done. */
import assert from 'node:assert/strict'
import { ServingError } from '@quiver/protocol'
import type { Sequence } from './sequence.ts'
import type { PlannedFinish } from './step-plan.ts'

export function earlyError(sequence: Sequence, cause: PlannedFinish['cause']): ServingError {
  switch (cause) {
    case 'cancelled':
      return new ServingError('client_closed', 'the client closed the request')
    case 'expired':
      return new ServingError(
        'deadline_exceeded',
        `the request's deadline passed after ${sequence.init.deadlineAtMs - sequence.init.arrivedAtMs} ms, ${progressOf(sequence)}`,
      )
    case 'late':
      return tooLate(sequence)
    case 'failed':
      assert(sequence.failure !== undefined, `sequence ${sequence.id} failed without a reason`)
      return sequence.failure
  }
}

function tooLate({ init }: Sequence): ServingError {
  const { adapter, arrivedAtMs, arrivesByMs, deadlineAtMs } = init
  assert(adapter.kind === 'adapter', `sequence ${init.id} waits for no adapter`)
  return adapterArriving(`adapter ${JSON.stringify(adapter.lease.name)}`, Math.min(arrivesByMs, deadlineAtMs) - arrivedAtMs)
}

/** The adapter is on its way and would have been waited for longer, had there been more time. */
export function adapterArriving(which: string, waitedMs: number): ServingError {
  return new ServingError(
    'adapter_arriving',
    `${which} did not arrive within ${waitedMs} ms; it is still being loaded: try again in a moment`,
  )
}

function progressOf({ init, generatedCount, computed }: Sequence): string {
  return init.kind === 'generate'
    ? `with ${generatedCount} of at most ${init.maxNewTokens} tokens generated`
    : `with ${computed} of ${init.promptIds.length} tokens computed`
}
