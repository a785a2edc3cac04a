import type { WorkerState } from '@quiver/protocol'

type TenantTotals = NonNullable<WorkerState['tenants']>[number]

/** What several workers do together: counts and bytes are added up. Undefined for none. */
export function mergedState(states: readonly WorkerState[]): WorkerState | undefined {
  const [first, ...others] = states
  return first === undefined ? undefined : others.reduce(add, first)
}

function add(a: WorkerState, b: WorkerState): WorkerState {
  const tenants = a.tenants === undefined && b.tenants === undefined ? {} : { tenants: tenantsOf([a, b]) }
  return { ...(added(a, b) as WorkerState), slots: [...a.slots, ...b.slots], ...tenants }
}

/** A tenant's requests may be at any worker. */
function tenantsOf(states: readonly WorkerState[]): TenantTotals[] {
  const totals = new Map<string, TenantTotals>()
  for (const one of states.flatMap(({ tenants = [] }) => tenants)) {
    totals.set(one.tenant, { ...(added(totals.get(one.tenant), one) as TenantTotals), tenant: one.tenant })
  }
  return [...totals.values()]
}

/** Adds numbers at the same place of two trees of objects; what only one has is kept. */
function added(a: unknown, b: unknown): unknown {
  if (typeof a === 'number' && typeof b === 'number') return a + b
  if (!isTree(a) || !isTree(b)) return a ?? b
  return Object.fromEntries([...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => [key, added(a[key], b[key])]))
}

function isTree(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
