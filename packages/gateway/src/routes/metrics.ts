/** `GET /metrics`: Prometheus' text, or the same as JSON for those who accept that. */
import type { WorkerState } from '@quiver/protocol'
import { Gauge, Registry } from 'prom-client'
import type { TimerClock } from '../clock.ts'
import { labelText } from '../metrics/adapter-labels.ts'
import type { GatewayMetrics } from '../metrics/gateway-metrics.ts'
import { workerMetrics } from '../metrics/worker-metrics.ts'
import type { Permits } from '../permits.ts'
import type { WorkerSource } from '../worker/worker-source.ts'

export interface MetricsDeps {
  readonly metrics: GatewayMetrics
  readonly workers: WorkerSource
  readonly permits: Permits
  readonly clock: TimerClock
  readonly version: string
}

/** How long a scrape waits for the worker; scrapers themselves give up after some seconds. */
const STATE_PATIENCE_MS = 1000

/** @param accept the request's `Accept` */
export async function answerMetrics(deps: MetricsDeps, accept: string, requestId: string): Promise<Response> {
  const { metrics, workers } = deps
  const state = await workerState(deps)
  const registries = [metrics.registry, gatewayNow(deps), workerMetrics({ state, arrivals: workers.arrivals })]
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

function gatewayNow({ permits, version, workers }: MetricsDeps): Registry {
  const registry = new Registry()
  const registers = [registry]
  const info = new Gauge({ name: 'quiver_info', help: 'Always 1', labelNames: ['version', 'model'], registers })
  info.set({ version, model: labelText(workers.info?.model.id ?? '') }, 1)
  const places = new Gauge({ name: 'quiver_gateway_places_taken', help: 'Concurrent runs that hold a place', registers })
  places.set(permits.taken)
  return registry
}
