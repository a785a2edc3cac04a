/** Which workers there are, how to take one out, and why requests go where they go. */
import { ServingError } from '@quiver/protocol'
import type { Candidate } from '../../placement/place.ts'
import type { WorkerReport } from '../../worker/worker-report.ts'
import type { AdminHandler } from './admin-deps.ts'

/** How long workers may take to say what they are doing; what one does not say is left out. */
const PATIENCE_MS = 2_000

export const listWorkers: AdminHandler = async ({ workers, exchange, answer }) => {
  const patience = AbortSignal.any([exchange.signal, AbortSignal.timeout(PATIENCE_MS)])
  return answer({ workers: (await workers.workers(patience)).map(workerAnswer) })
}

/** Answered when the worker has said so; every gateway then stops sending it anything. */
export const drainWorker: AdminHandler = async ({ workers, exchange, param, answer }) => {
  const id = param('id')
  await workers.drain(id, exchange.signal)
  return answer({ id, state: 'draining' })
}

/** @throws ServingError `invalid_request`, `adapter_not_found`, `not_ready` */
export const explainPlacement: AdminHandler = async ({ workers, catalogue, query, answer }) => {
  const name = query['adapter'] ?? ''
  const found = name === '' ? undefined : catalogue.find(name).manifest
  const base = found === undefined || workers.infoOf(found.base) === undefined ? undefined : found.base
  const placement = workers.explain(found?.digest, base)
  if (placement === undefined) throw new ServingError('not_ready', 'no worker can take requests now')
  return answer({
    ...(found === undefined ? {} : { adapter: found.name, digest: found.digest }),
    base: base ?? workers.info?.model.id,
    choice: { address: placement.worker.id, placement: placement.kind },
    candidates: placement.candidates.map(candidateAnswer),
  })
}

function workerAnswer({ id, address, base, state, running, waiting, tokensPerSecond, details }: WorkerReport) {
  return {
    id: id ?? null,
    address,
    base: base ?? null,
    state,
    running,
    waiting,
    speed: tokensPerSecond === undefined ? null : { prompt_tokens_per_second: Math.round(tokensPerSecond) },
    ...(details === undefined
      ? { slots: null, ram_bytes: null, disk_bytes: null }
      : {
          slots: details.slots.map(({ slot, state: content, digest, leaseCount }, index) => ({
            slot: slot ?? index,
            state: content,
            ...(digest === undefined ? {} : { digest }),
            ...(leaseCount === undefined ? {} : { leases: leaseCount }),
          })),
          ram_bytes: details.tiers.ram.bytes,
          disk_bytes: details.tiers.disk.bytes,
        }),
  }
}

function candidateAnswer({ worker, presence, predictedMs, terms, isAboveBound }: Candidate) {
  return {
    address: worker.id,
    presence,
    predicted_ms: rounded(predictedMs),
    terms: {
      prefill_ms: rounded(terms.prefillMs),
      place_ms: rounded(terms.placeMs),
      load_ms: rounded(terms.loadMs),
      harm_ms: rounded(terms.harmMs),
    },
    above_load_bound: isAboveBound,
  }
}

/** Microseconds are noise. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000
}
