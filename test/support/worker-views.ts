import { hashText } from '../../packages/gateway/src/placement/rendezvous.ts'
import type { Presence, WorkerView } from '../../packages/gateway/src/placement/worker-view.ts'

const LOAD_MS = { device: 0, arriving: 5, ram: 5, disk: 20, absent: 300 } as const

/** An idle worker that has nothing of any adapter, but for what is said. */
export function workerView(
  id: string,
  { holds = {}, ...rest }: Partial<WorkerView> & { readonly holds?: Readonly<Record<string, Presence>> } = {},
): WorkerView {
  return {
    id,
    hash: hashText(id),
    accepts: true,
    sequences: 32,
    requests: 0,
    queuedTokens: 0,
    tokensPerSecond: 2_000,
    turnoverMs: 50,
    freeSlots: 32,
    hasSlotToGive: true,
    victim: { requestsPerSecond: 0, reloadMs: 5 },
    presence: (adapter) => holds[adapter] ?? 'absent',
    loadMs: (presence) => LOAD_MS[presence],
    ...rest,
  }
}

export function workerViews(count: number, of: (id: string) => WorkerView = workerView): readonly WorkerView[] {
  return Array.from({ length: count }, (_, index) => of(`worker-${index}`))
}
