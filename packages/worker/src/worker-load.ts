import type { AdapterCache } from '@quiver/cache'
import type { WorkerLoad } from '@quiver/protocol'
import type { BatchLoop } from './batch-loop.ts'

export interface LoadView {
  readonly loop: Pick<BatchLoop, 'busyness' | 'stepAgeMs'>
  readonly cache: Pick<AdapterCache, 'outlook'>
  /** Nobody should send this worker more. */
  readonly isLeaving: boolean
  /** Requests that are not in the batch yet. */
  readonly resolving: number
}

/** How busy this worker is and how fast, for those who place requests. */
export function workerLoad({ loop, cache, isLeaving, resolving }: LoadView): WorkerLoad {
  const { waiting, ...busyness } = loop.busyness()
  return {
    state: isLeaving ? 'draining' : 'ready',
    ...busyness,
    waiting: waiting + resolving,
    stepAgeMs: loop.stepAgeMs,
    ...cache.outlook(),
  }
}
