import type { Priority } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { fairOrder, OVERTAKEN_MS } from '../../../packages/worker/src/step/fair-order.ts'
import { planStep } from '../../../packages/worker/src/step/plan-step.ts'
import type { TenantService } from '../../../packages/worker/src/step/service-ledger.ts'
import type { StepView } from '../../../packages/worker/src/step/step-plan.ts'
import { digestOf, resident, running, view, waiting } from '../../support/step-views.ts'

const of = (tenant: string, priority: Priority = 'normal') => ({ client: { tenant, priority } })
const tenant = (name: string, level: number, more: Partial<TenantService> = {}): TenantService => ({
  tenant: name,
  weight: 1,
  level,
  flows: [],
  ...more,
})
const order = (parts: Partial<StepView>) => {
  const all = view(parts)
  return fairOrder({ view: all, running: all.running, waiting: all.waiting }).map(({ sequence }) => sequence)
}

describe('fairOrder', () => {
  it('takes the least counter first, and counts what goes before within a tenant', () => {
    const waiters = [
      waiting(1, { ...of('a'), prompt: 10 }),
      waiting(2, { ...of('a'), prompt: 10 }),
      waiting(3, of('b')),
      waiting(4, of('b')),
    ]
    expect(order({ waiting: waiters, tenants: [tenant('a', 100), tenant('b', 112)] })).toEqual([1, 2, 3, 4])
    expect(order({ waiting: waiters, tenants: [tenant('a', 100), tenant('b', 105)] })).toEqual([1, 3, 4, 2])
    expect(order({ waiting: waiters, tenants: [tenant('a', 100), tenant('b', 90)] })).toEqual([3, 4, 1, 2])
  })

  it('divides what a request costs by the weight', () => {
    const waiters = [1, 2, 3].map((id) => waiting(id, { ...of('a'), prompt: 12 }))
    const others = [4, 5].map((id) => waiting(id, { ...of('b'), prompt: 12 }))
    const tenants = [tenant('a', 0, { weight: 3 }), tenant('b', 1)]
    expect(order({ waiting: [...waiters, ...others], tenants })).toEqual([1, 4, 2, 3, 5])
  })

  it('counts prompts that run as if they were charged, but gives their rows by what was', () => {
    const long = running(1, { ...of('a'), prompt: 500, generated: 0, computed: 100 })
    const waiters = [waiting(2, { ...of('a'), prompt: 5 }), waiting(3, { ...of('b'), prompt: 5 })]
    expect(order({ running: [long], waiting: waiters, tenants: [tenant('a', 10), tenant('b', 10)] })).toEqual([3, 1, 2])
    expect(order({ running: [long], waiting: waiters, tenants: [tenant('a', 10), tenant('b', 300)] })).toEqual([1, 3, 2])
  })

  it('takes what the prefix cache has for computed', () => {
    const waiters = [waiting(1, { ...of('a'), prompt: 40, cached: 39 }), waiting(2, of('a')), waiting(3, of('b'))]
    expect(order({ waiting: waiters, tenants: [tenant('a', 0), tenant('b', 5)] })).toEqual([1, 2, 3])
  })

  it('serves the adapters of one tenant alike', () => {
    const waiters = [1, 2, 3].map((id) => waiting(id, { adapter: 'a' }))
    const slots = [resident(0, 'a'), resident(1, 'b')]
    expect(order({ waiting: [...waiters, waiting(4, { adapter: 'b' })], slots })).toEqual([1, 4, 2, 3])
    const flows = [
      { flow: digestOf('a'), level: 50 },
      { flow: digestOf('b'), level: 60 },
    ]
    const tenants = [tenant('tests', 0, { flows })]
    expect(order({ waiting: [waiting(5, { adapter: 'b' }), ...waiters], slots, tenants })).toEqual([1, 2, 3, 5])
  })

  it('orders by priority within a tenant, and by nothing of the kind between tenants', () => {
    const waiters = [waiting(1, of('a', 'low')), waiting(2, of('a')), waiting(3, of('a', 'high')), waiting(4, of('b', 'low'))]
    expect(order({ waiting: waiters, tenants: [tenant('a', 0), tenant('b', -1)] })).toEqual([4, 3, 2, 1])
  })

  it('lets a low request rise by a class for every ten seconds of waiting', () => {
    const low = waiting(1, of('a', 'low'))
    const fresh = waiting(2, { ...of('a', 'high'), arrivedAtMs: 19_000 })
    expect(order({ nowMs: 19_999, waiting: [low, fresh] })).toEqual([2, 1])
    expect(order({ nowMs: 20_000, waiting: [low, fresh] })).toEqual([1, 2])
  })

  it('puts a near deadline first within a tenant, unless it cannot be kept any more', () => {
    const early = waiting(1, of('a'))
    const near = waiting(2, { ...of('a'), deadlineAtMs: 1_000 })
    const other = waiting(3, of('b'))
    const tenants = [tenant('a', 5), tenant('b', 0)]
    expect(order({ nowMs: 700, waiting: [early, near, other], tenants })).toEqual([3, 1, 2])
    expect(order({ nowMs: 800, waiting: [early, near, other], tenants })).toEqual([3, 2, 1])
    const pace = { answers: [{ rows: 1, ms: 5 }], prompts: [{ rows: 3, ms: 300 }], typicalMs: 5 }
    expect(order({ nowMs: 800, waiting: [early, near, other], tenants, pace })).toEqual([3, 1, 2])
  })

  it('lets who finds its adapter in a slot go first within a turn, while slots are short and nobody has waited long', () => {
    const waiters = [waiting(1, { adapter: 'x' }), waiting(2, { adapter: 'a' })]
    expect(order({ waiting: waiters, slots: [resident(0, 'a')] })).toEqual([2, 1])
    expect(order({ nowMs: OVERTAKEN_MS, waiting: waiters, slots: [resident(0, 'a')] })).toEqual([1, 2])
    const roomy = [resident(0, 'a'), resident(1, 'b')]
    expect(order({ waiting: waiters, slots: roomy })).toEqual([1, 2])
    const flows = [{ flow: digestOf('a'), level: 1_024 }]
    expect(order({ waiting: waiters, slots: [resident(0, 'a')], tenants: [tenant('tests', 0, { flows })] })).toEqual([1, 2])
  })
})

describe('planStep with several tenants', () => {
  const limits = { sequences: 4, chunkTokens: 64, reservedShare: 0.25 }
  const admitted = (parts: Partial<StepView>, more = {}) =>
    planStep(view(parts), { ...limits, ...more }).admissions.map(({ sequence }) => sequence)
  const flood = [4, 5].map((id) => waiting(id, of('a')))
  const three = [1, 2, 3].map((id) => running(id, of('a')))

  it('keeps the last places for a tenant who is expected back', () => {
    expect(admitted({ running: three, waiting: flood, tenants: [tenant('a', 0), tenant('b', 0)] })).toEqual([])
    expect(admitted({ running: three.slice(1), waiting: flood, tenants: [tenant('a', 0), tenant('b', 0)] })).toEqual([4])
    expect(
      admitted({ running: three, waiting: [...flood, waiting(6, of('b'))], tenants: [tenant('a', 0), tenant('b', 0)] }),
    ).toEqual([6])
  })

  it('uses every place while nobody is expected', () => {
    expect(admitted({ running: three, waiting: flood, tenants: [tenant('a', 0)] })).toEqual([4])
    const two = [running(1, of('a')), running(2, of('b')), running(3, of('b'))]
    expect(admitted({ running: two, waiting: flood, tenants: [tenant('a', 0), tenant('b', 0)] })).toEqual([4])
  })

  it('gives a kept place to nobody whose turn it is not', () => {
    const parts = { running: three, waiting: [...flood, waiting(6, of('c'))] }
    expect(admitted({ ...parts, tenants: [tenant('a', 0), tenant('b', 0), tenant('c', 10)] })).toEqual([])
    expect(admitted({ ...parts, tenants: [tenant('a', 20), tenant('b', 0), tenant('c', 10)] })).toEqual([6])
  })

  it('says what its rows cost whom', () => {
    const plan = planStep(
      view({
        running: [running(1, of('a')), running(2, { ...of('a'), slot: 0, adapter: 'x' })],
        waiting: [waiting(3, of('b'))],
        slots: [resident(0, 'x', 1)],
      }),
      limits,
    )
    expect(plan).toMatchObject({
      charges: expect.arrayContaining([
        { tenant: 'a', flow: 'base', tokens: 2 },
        { tenant: 'a', flow: digestOf('x'), tokens: 2 },
        { tenant: 'b', flow: 'base', tokens: 3 },
      ]),
    })
  })
})
