import type { WorkerState } from '@quiver/protocol'
import { expect, test } from 'vitest'
import { mergedState } from '../../../packages/gateway/src/worker/merged-state.ts'
import { scriptedState } from '../../support/scripted-worker.ts'

type Tenants = NonNullable<WorkerState['tenants']>

function stateOf(tenants: Tenants | undefined): WorkerState {
  const { tenants: _, ...rest } = scriptedState
  return tenants === undefined ? rest : { ...rest, tenants }
}

// Lists were taken from the first worker alone, and whoever was served by another one did not stand in the metrics.
test("a tenant's requests are added up over all workers, also over those that tell of no tenants", () => {
  const merged = mergedState([
    stateOf(undefined),
    stateOf([
      { tenant: 'acme', waiting: 1, running: 2, servedTokens: 30 },
      { tenant: '', waiting: 0, running: 1, servedTokens: 5 },
    ]),
    stateOf([
      { tenant: 'zeta', waiting: 4, running: 0, servedTokens: 7 },
      { tenant: 'acme', waiting: 10, running: 20, servedTokens: 300 },
    ]),
  ])
  expect(merged?.tenants).toEqual([
    { tenant: 'acme', waiting: 11, running: 22, servedTokens: 330 },
    { tenant: '', waiting: 0, running: 1, servedTokens: 5 },
    { tenant: 'zeta', waiting: 4, running: 0, servedTokens: 7 },
  ])
  expect(mergedState([stateOf(undefined), stateOf(undefined)])).not.toHaveProperty('tenants')
})
