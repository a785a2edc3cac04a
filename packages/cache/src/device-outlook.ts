import type { AdapterDigest, WorkerLoad } from '@quiver/protocol'
import type { SlotView } from './residency.ts'

const MIB = 1024 * 1024

/** What one more adapter would find in the device, and what loads take: the part of a worker's load that its cache knows. */
export type DeviceOutlook = Pick<WorkerLoad, 'freeSlots' | 'hasSlotToGive' | 'victim' | 'reload'>

export interface OutlookView {
  readonly slots: readonly SlotView[]
  readonly reload: DeviceOutlook['reload']
  readonly requestsPerSecond: (digest: AdapterDigest) => number
  /** Where an adapter that leaves its slot would be got from again. */
  readonly from: (digest: AdapterDigest) => keyof DeviceOutlook['reload']
  /** Packed size. */
  readonly bytesOf: (digest: AdapterDigest) => number
}

/** The victim is the one that the next load pushes out: of those that nobody computes with, the one least worth keeping. */
export function deviceOutlook({ slots, reload, requestsPerSecond, from, bytesOf }: OutlookView): DeviceOutlook {
  const victim = (digest: AdapterDigest) => {
    const { fixedMs, msPerMib } = reload[from(digest)]
    return { requestsPerSecond: requestsPerSecond(digest), reloadMs: fixedMs + (msPerMib * bytesOf(digest)) / MIB }
  }
  let freeSlots = 0
  let least: Extract<SlotView, { state: 'resident' }> | undefined
  for (const slot of slots) {
    if (slot.state === 'free') freeSlots += 1
    else if (slot.state === 'resident' && slot.leaseCount === 0 && !(least !== undefined && least.keepScore <= slot.keepScore))
      least = slot
  }
  return {
    freeSlots,
    hasSlotToGive: freeSlots > 0 || least !== undefined,
    victim: least === undefined ? { requestsPerSecond: 0, reloadMs: 0 } : victim(least.digest),
    reload,
  }
}
