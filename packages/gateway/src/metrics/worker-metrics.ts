/** A worker's own numbers as metrics. Made anew at each scrape: of a worker that is gone nothing old is shown. */
import type { WorkerState } from '@quiver/protocol'
import { Counter, Gauge, Registry } from 'prom-client'

type Labels = Readonly<Record<string, string>>
type Sample = readonly [value: number, labels?: Labels]
type Row = readonly [kind: 'gauge' | 'counter', name: string, help: string, samples: readonly Sample[]]

export interface WorkerPresence {
  /** Undefined: there is none, or it does not answer. */
  readonly state: WorkerState | undefined
  /** How often a worker has become ready. */
  readonly arrivals: number
}

/** A registry with what the worker says of itself now. */
export function workerMetrics({ state, arrivals }: WorkerPresence): Registry {
  const registry = new Registry()
  const rows: readonly Row[] = [
    ['gauge', 'quiver_worker_up', 'Whether the worker says what it is doing', [[state === undefined ? 0 : 1]]],
    ['counter', 'quiver_worker_restarts_total', 'Times that a worker was ready again', [[Math.max(0, arrivals - 1)]]],
    ...(state === undefined
      ? []
      : [...batchRows(state), ...tenantRows(state), ...prefixRows(state), ...tierRows(state), ...adapterRows(state)]),
  ]
  for (const [kind, name, help, samples] of rows) {
    const options = { name, help, labelNames: Object.keys(samples[0]?.[1] ?? {}), registers: [registry] }
    if (kind === 'gauge') {
      const gauge = new Gauge(options)
      // Of samples with the same labels the sum: a tenant may be called as those are that have no name.
      for (const [value, labels = {}] of samples) gauge.inc(labels, value)
    } else {
      const counter = new Counter(options)
      for (const [value, labels = {}] of samples) counter.inc(labels, value)
    }
  }
  return registry
}

function batchRows(state: WorkerState): readonly Row[] {
  const finished = Object.entries(state.finished).map(([cause, count]): Sample => [count, { cause }])
  const slots = (['free', 'loading', 'resident'] as const).map(
    (wanted): Sample => [state.slots.filter((slot) => slot.state === wanted).length, { state: wanted }],
  )
  return [
    ['gauge', 'lorax_batch_current_size', 'Sequences in the batch', [[state.running]]],
    ['gauge', 'lorax_queue_length', 'Sequences that wait to be admitted', [[state.waiting]]],
    ['counter', 'quiver_worker_steps_total', 'Steps computed', [[state.steps]]],
    ['counter', 'quiver_worker_failed_steps_total', 'Steps that failed', [[state.failedSteps]]],
    [
      'counter',
      'quiver_worker_rows_total',
      'Tokens computed',
      [
        [state.prefillRows, { phase: 'prefill' }],
        [state.decodeRows, { phase: 'decode' }],
      ],
    ],
    ['counter', 'quiver_worker_drafted_tokens_total', 'Guessed tokens that were computed', [[state.drafted ?? 0]]],
    ['counter', 'quiver_worker_accepted_tokens_total', 'Of these, those that came true', [[state.accepted ?? 0]]],
    ['counter', 'quiver_worker_admitted_total', 'Sequences admitted to the batch', [[state.admitted]]],
    ['counter', 'quiver_worker_finished_total', 'Sequences that have ended, by cause', finished],
    ['gauge', 'quiver_worker_slots', 'Places for adapters in device memory, by state', slots],
    ['counter', 'quiver_worker_slot_loads_total', 'Adapters put into slots', [[state.loads]]],
    [
      'gauge',
      'quiver_worker_leases',
      'Sequences that hold an adapter, and that compute with one',
      [
        [state.leases.adapters, { on: 'adapter' }],
        [state.leases.slots, { on: 'slot' }],
      ],
    ],
  ]
}

function prefixRows({ prefix }: WorkerState): readonly Row[] {
  if (prefix === undefined) return []
  const { hits, misses, cachedTokens, blocks, bytes, budgetBytes, evicted } = prefix
  return [
    [
      'counter',
      'quiver_prefix_lookups_total',
      'Prompts looked up in the prefix cache, by result',
      [
        [hits, { result: 'hits' }],
        [misses, { result: 'misses' }],
      ],
    ],
    ['counter', 'quiver_prefix_tokens_total', 'Prompt tokens that were copied and not computed', [[cachedTokens]]],
    ['gauge', 'quiver_prefix_blocks', 'Blocks of 16 tokens in the prefix cache', [[blocks]]],
    ['gauge', 'quiver_prefix_bytes', 'Memory taken by the prefix cache', [[bytes]]],
    ['gauge', 'quiver_prefix_budget_bytes', 'The most that it may take', [[budgetBytes]]],
    ['counter', 'quiver_prefix_evictions_total', 'Blocks that made room for others', [[evicted]]],
  ]
}

/** The worker names only its first tenants, and calls all others together by an empty name: `other` here. */
function tenantRows({ tenants = [] }: WorkerState): readonly Row[] {
  const by = (of: (tenant: (typeof tenants)[number]) => number): Sample[] =>
    tenants.map((tenant) => [of(tenant), { tenant: tenant.tenant === '' ? 'other' : tenant.tenant }])
  return [
    ['gauge', 'quiver_tenant_running', 'Sequences of a tenant in the batch', by(({ running }) => running)],
    ['gauge', 'quiver_tenant_waiting', 'Sequences of a tenant that wait to be admitted', by(({ waiting }) => waiting)],
    [
      'counter',
      'quiver_tenant_served_tokens_total',
      "Virtual tokens that a tenant was served: 1 for a prompt's, 2 for an answer's",
      by(({ servedTokens }) => servedTokens),
    ],
  ]
}

function tierRows({ tiers: { device, ram, disk } }: WorkerState): readonly Row[] {
  const tiers = Object.entries({ device, ram, disk })
  return [
    ['gauge', 'quiver_tier_bytes', 'Bytes of adapters in a tier', tiers.map(([tier, { bytes }]) => [bytes, { tier }])],
    ['gauge', 'quiver_tier_held_bytes', 'Of the bytes in memory, those that requests and pins hold', [[ram.heldBytes]]],
    ['gauge', 'quiver_ram_budget_bytes', 'The most that adapters may take of memory now', [[ram.budgetBytes]]],
    [
      'counter',
      'quiver_tier_evictions_total',
      'Adapters that left a tier to make room',
      tiers.map(([tier, { evicted }]) => [evicted, { tier }]),
    ],
    [
      'counter',
      'quiver_disk_reads_total',
      'Look-ups of the disk tier, by result',
      (['hits', 'misses', 'damaged'] as const).map((result) => [disk[result], { result }]),
    ],
    ['counter', 'quiver_disk_write_failures_total', 'Adapters that could not be kept on disk', [[disk.writeFailures]]],
  ]
}

function adapterRows({ adapters }: WorkerState): readonly Row[] {
  const { found, arrived } = adapters
  return [
    [
      'counter',
      'quiver_adapter_requests_total',
      'Requests with an adapter, by where it was when they came',
      (['device', 'ram', 'arriving', 'absent'] as const).map((where) => [found[where], { found: where }]),
    ],
    [
      'counter',
      'quiver_adapter_loads_total',
      'Adapters brought into memory, by where from',
      (['disk', 'origin', 'merge'] as const).map((source) => [arrived[source], { source }]),
    ],
    ['counter', 'quiver_adapter_failed_loads_total', 'Loads of adapters that failed', [[adapters.failedLoads]]],
    ['gauge', 'quiver_slots_wanted', 'Slots that would have kept every adapter asked for again lately', [[adapters.slotsWanted]]],
    ['gauge', 'quiver_adapters_pinned', 'Adapters that are pinned', [[adapters.pinned]]],
    ['gauge', 'quiver_adapters_pinned_bytes', 'Their bytes in memory', [[adapters.pinnedBytes]]],
    [
      'gauge',
      'quiver_adapters_quarantined',
      'Adapters that are not tried because they failed repeatedly',
      [[adapters.quarantined]],
    ],
  ]
}
