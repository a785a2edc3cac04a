/** From a request whose types are right to a run at a worker. */
import type { Logger, RunRequest, WorkerInfo } from '@quiver/protocol'
import type { RunShare } from '../auth/run-share.ts'
import type { CatalogueView } from '../catalogue/catalogue.ts'
import type { ClientLimits } from '../client-limits.ts'
import type { TimerClock } from '../clock.ts'
import type { GatewayMetrics } from '../metrics/gateway-metrics.ts'
import type { Permits } from '../permits.ts'
import { runWithRetry, type SuccessEvent } from '../worker/run-with-retry.ts'
import type { WorkerSource } from '../worker/worker-source.ts'
import { refuseLongAnswer } from './answer-size.ts'
import type { Exchange } from './exchange.ts'
import { admissionChecks, parameterChecks, runChecks, streamChecks } from './generate-checks.ts'
import type { GenerateBody } from './generate-schema.ts'
import { toRunRequest } from './run-request.ts'
import { servedModel } from './served-model.ts'

export interface GenerateDeps {
  readonly workers: WorkerSource
  /** For whom the request is answered. */
  readonly tenant: string
  readonly share?: RunShare
  /** What that tenant may use. */
  readonly catalogue: CatalogueView
  readonly permits: Permits
  readonly clientLimits: ClientLimits
  readonly metrics: GatewayMetrics
  readonly clock: TimerClock
  readonly log: Logger
  /** A whole number, 0 … 2^53−1. */
  readonly drawSeed: () => number
  /** Different each time, at most 36 characters. */
  readonly newId: () => string
  /** Aborted when running requests must end now. */
  readonly shutdown: AbortSignal
  readonly times: GenerateTimes
}

/** All in milliseconds. */
export interface GenerateTimes {
  readonly deadlineMs: number
  readonly keepAliveMs: number
  readonly slowReaderMs: number
}

/** A request whose types are right, with all that belongs to answering it. */
export interface Generation {
  readonly body: GenerateBody
  readonly seed: string | undefined
  readonly exchange: Exchange
}

export interface Run {
  readonly events: AsyncGenerator<readonly SuccessEvent[]>
  readonly request: RunRequest
  readonly info: WorkerInfo
  /** From arrival until the request was found valid. */
  readonly validationMs: number
}

/** Before everything else. */
const firstChecks = { whole: admissionChecks, stream: streamChecks }

/**
 * Checks the request and begins the run. The permit is given back when `events` ends, however it ends.
 * @throws ServingError what is wrong with the request
 */
export function startRun(deps: GenerateDeps, generation: Generation, form: keyof typeof firstChecks): Run {
  const { body, seed, exchange } = generation
  const info = servedModel(deps.workers, { parameters: body.parameters, catalogue: deps.catalogue })
  const bounds = { inputTokens: info.limits.inputTokens, ...deps.clientLimits }
  runChecks(firstChecks[form], body, bounds)
  const release = deps.permits.take(deps.workers.places)
  try {
    runChecks(parameterChecks, body, bounds)
    if (form === 'whole') refuseLongDetails(body, info.limits.totalTokens)
    const request = toRunRequest(body, {
      requestId: exchange.requestId,
      seed,
      drawSeed: deps.drawSeed,
      deadlineMs: exchange.remainingMs(),
      tenant: deps.tenant,
      share: deps.share,
      catalogue: deps.catalogue,
      base: info.model.id,
    })
    const runId = `${exchange.requestId}.${deps.newId()}`.slice(0, 120)
    const attempt = (number: number): RunRequest => ({
      ...request,
      // Clients may use one id for several requests at once; workers may not see it twice.
      requestId: `${runId}.${number}`,
      deadlineMs: exchange.remainingMs(),
    })
    const run = runWithRetry(deps.workers, attempt, exchange.signal, exchange.notePlaced)
    const events = releasing(deps.metrics.measured(run, request), release)
    return { events, request, info, validationMs: deps.clock.nowMs() - exchange.arrivedAtMs }
  } catch (error) {
    release()
    throw error
  }
}

/** Without `details` the answer is the text alone, and of alternatives that were asked for nothing is left out on the way. */
function refuseLongDetails({ parameters }: GenerateBody, totalTokens: number): void {
  const { top_n_tokens, return_k_alternatives } = parameters
  const alternatives = (top_n_tokens ?? 0) + (return_k_alternatives ?? 0)
  if (alternatives === 0 && parameters.details !== true) return
  refuseLongAnswer({
    tokens: { field: 'max_new_tokens', value: Math.min(parameters.max_new_tokens ?? totalTokens, totalTokens) },
    alternatives: {
      field: (return_k_alternatives ?? 0) > (top_n_tokens ?? 0) ? 'return_k_alternatives' : 'top_n_tokens',
      value: alternatives,
    },
    runs: { field: 'best_of', value: parameters.best_of ?? 1 },
  })
}

async function* releasing<T>(events: AsyncGenerator<T>, release: () => void): AsyncGenerator<T> {
  try {
    yield* events
  } finally {
    release()
  }
}
