/** `GET /metrics`: Prometheus' text, or the same as JSON for those who accept that. */
import type { WorkerState } from '@quiver/protocol'
import { AggregatorRegistry, Gauge, Registry } from 'prom-client'
import type { TimerClock } from '../clock.ts'
import { labelText } from '../metrics/adapter-labels.ts'
import type { GatewayMetrics } from '../metrics/gateway-metrics.ts'
import { workerMetrics } from '../metrics/worker-metrics.ts'
import type { Permits } from '../permits.ts'
import type { Siblings } from '../processes/siblings.ts'
import type { WorkerSource } from '../worker/worker-source.ts'

export interface MetricsDeps {
  readonly metrics: GatewayMetrics
  readonly workers: WorkerSource
  readonly permits: Permits
  readonly clock: TimerClock
  readonly version: string
  /** Absent: this process is the whole gateway. */
  readonly siblings?: Siblings
}

/** How long a scrape waits for the worker; scrapers themselves give up after some seconds. */
const STATE_PATIENCE_MS = 1000

/** @param accept the request's `Accept` */
export async function answerMetrics(deps: MetricsDeps, accept: string, requestId: string): Promise<Response> {
  const { workers } = deps
  const state = await workerState(deps)
  const registries = [...(await ofProcesses(deps)), gatewayNow(deps), workerMetrics({ state, arrivals: workers.arrivals })]
  const headers = { 'x-request-id': requestId, 'cache-control': 'no-store' }
  if (accept.includes('application/json')) {
    const lists = await Promise.all(registries.map((registry) => registry.getMetricsAsJSON()))
    return Response.json(lists.flat(), { headers })
  }
  const texts = await Promise.all(registries.map((registry) => registry.metrics()))
  const body = `${texts.map((text) => text.trimEnd()).join('\n')}\n`
  return new Response(body, { headers: { ...headers, 'content-type': Registry.PROMETHEUS_CONTENT_TYPE } })
}

async function workerState({ workers, clock }: MetricsDeps): Promise<WorkerState | undefined> {
  const controller = new AbortController()
  const stop = clock.after(STATE_PATIENCE_MS, () => controller.abort())
  try {
    return await workers.state(controller.signal)
  } catch {
    // Whatever keeps it from answering, it counts as not up.
    return undefined
  } finally {
    stop()
  }
}

const TOPIC = 'metrics'

type MetricsOfProcess = Pick<MetricsDeps, 'metrics' | 'permits'>

/** What is to be counted together with what the siblings have counted. */
export function answerSiblings(deps: MetricsOfProcess, siblings: Siblings): void {
  siblings.answer(TOPIC, () => ownMetrics(deps))
}

async function ownMetrics(deps: MetricsOfProcess): Promise<readonly object[]> {
  return [...(await deps.metrics.registry.getMetricsAsJSON()), ...(await placesTaken(deps).getMetricsAsJSON())]
}

/** Counts, sums and sizes of all processes together, as each metric says; of one that does not answer in time nothing. */
async function ofProcesses(deps: MetricsDeps): Promise<readonly Registry[]> {
  if (deps.siblings === undefined) return [deps.metrics.registry, placesTaken(deps), processCount(1)]
  const lists = [await ownMetrics(deps), ...(await deps.siblings.ask(TOPIC, undefined))].filter(Array.isArray)
  return [AggregatorRegistry.aggregate<typeof Registry.PROMETHEUS_CONTENT_TYPE>(lists), processCount(lists.length)]
}

function placesTaken({ permits }: MetricsOfProcess): Registry {
  return registryOf('quiver_gateway_places_taken', 'Concurrent runs that hold a place', permits.taken)
}

function processCount(count: number): Registry {
  return registryOf('quiver_gateway_processes', 'Processes of this gateway whose numbers these are', count)
}

function registryOf(name: string, help: string, value: number): Registry {
  const registry = new Registry()
  new Gauge({ name, help, registers: [registry] }).set(value)
  return registry
}

function gatewayNow({ version, workers }: MetricsDeps): Registry {
  const registry = new Registry()
  const info = new Gauge({ name: 'quiver_info', help: 'Always 1', labelNames: ['version', 'model'], registers: [registry] })
  info.set({ version, model: labelText(workers.info?.model.id ?? '') }, 1)
  return registry
}
