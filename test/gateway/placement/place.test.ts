import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { place } from '../../../packages/gateway/src/placement/place.ts'
import { placementRules as rules } from '../../../packages/gateway/src/placement/placement-rules.ts'
import type { Presence, WorkerView } from '../../../packages/gateway/src/placement/worker-view.ts'
import { randomSeed } from '../../support/random-seed.ts'
import { workerView, workerViews } from '../../support/worker-views.ts'

const request = { adapter: 'acme/sql', bytes: 5_000_000, promptTokens: 100 }
const chosen = (workers: readonly WorkerView[], asked: typeof request | Omit<typeof request, 'adapter'> = request) => {
  const placement = place(asked, workers, rules)
  return placement && { id: placement.worker.id, kind: placement.kind }
}
const with8 = (changes: Readonly<Record<string, Parameters<typeof workerView>[1]>>) =>
  workerViews(8, (id) => workerView(id, changes[id]))
const usual = chosen(workerViews(8))?.id ?? ''
const other = usual === 'worker-0' ? 'worker-1' : 'worker-0'

describe('a request for an adapter', () => {
  test('goes to the worker that has it in its device', () => {
    expect(chosen(with8({ [other]: { holds: { 'acme/sql': 'device' } } }))).toEqual({ id: other, kind: 'resident' })
  })

  test('goes where the adapter is arriving, so that a burst loads it once', () => {
    expect(chosen(with8({ [other]: { holds: { 'acme/sql': 'arriving' }, requests: 3 } }))).toEqual({
      id: other,
      kind: 'resident',
    })
  })

  test('that nobody has goes to the first worker of its rendezvous order, always the same', () => {
    expect(chosen(workerViews(8))).toEqual({ id: usual, kind: 'cold' })
    expect(chosen(workerViews(8).toReversed())).toEqual({ id: usual, kind: 'cold' })
  })

  test('that nobody has goes to the next of the order while the first has more than its share', () => {
    const placement = chosen(with8({ [usual]: { requests: 20 } }))
    expect(placement?.kind).toBe('cold')
    expect(placement?.id).not.toBe(usual)
  })

  test('spills once waiting where it is takes longer than loading it elsewhere', () => {
    const busy = (queuedTokens: number) =>
      chosen(with8({ [other]: { holds: { 'acme/sql': 'device' }, queuedTokens }, [usual]: { holds: { 'acme/sql': 'disk' } } }))
    expect(busy(20)).toEqual({ id: other, kind: 'resident' })
    expect(busy(20_000)).toEqual({ id: usual, kind: 'spill' })
  })

  test('draws back to the first of its order when several have it and none is busy', () => {
    const holds = { 'acme/sql': 'device' } as const
    const workers = workerViews(8, (id) => workerView(id, { holds }))
    expect(chosen(workers)).toEqual({ id: usual, kind: 'resident' })
  })

  test('is told where the adapter was found', () => {
    const where = (presence: Presence) => chosen([workerView('only', { holds: { 'acme/sql': presence } })])?.kind
    expect(['device', 'arriving', 'ram', 'disk', 'absent'].map((presence) => where(presence as Presence))).toEqual([
      'resident',
      'resident',
      'ram',
      'disk',
      'cold',
    ])
  })

  test('does not push out what others ask for often while another worker has room', () => {
    const full = { freeSlots: 0, victim: { requestsPerSecond: 10, reloadMs: 20 } }
    const placement = chosen(with8({ [usual]: full }))
    expect(placement?.kind).toBe('cold')
    expect(placement?.id).not.toBe(usual)
  })

  test('does not wait for a slot where every one is in use while another has one', () => {
    const placement = chosen(with8({ [usual]: { freeSlots: 0, hasSlotToGive: false, turnoverMs: 900 } }))
    expect(placement?.id).not.toBe(usual)
  })
})

describe('a request for the base model', () => {
  const base = { bytes: 0, promptTokens: 100 }

  test('goes to the worker with the most room', () => {
    const workers = [
      workerView('a', { requests: 9 }),
      workerView('b', { requests: 3 }),
      workerView('c', { requests: 5, sequences: 128 }),
    ]
    expect(chosen(workers, base)).toEqual({ id: 'c', kind: 'resident' })
  })

  test('avoids a worker with a long queue of prompts', () => {
    expect(chosen([workerView('a', { queuedTokens: 9_000 }), workerView('b', { requests: 9 })], base)?.id).toBe('b')
  })
})

describe('health', () => {
  test('comes before residency', () => {
    const workers = with8({ [other]: { holds: { 'acme/sql': 'device' }, accepts: false } })
    expect(chosen(workers)).toEqual({ id: usual, kind: 'cold' })
  })

  test('of nobody leaves nothing to choose', () => {
    expect(chosen(workerViews(3, (id) => workerView(id, { accepts: false })))).toBeUndefined()
    expect(chosen([])).toBeUndefined()
  })
})

const presences = fc.constantFrom<Presence>('device', 'arriving', 'ram', 'disk', 'absent')
const views = fc.uniqueArray(fc.nat(200), { minLength: 1, maxLength: 12 }).chain((ids) =>
  fc.tuple(
    ...ids.map((id) =>
      fc
        .record({
          presence: presences,
          accepts: fc.boolean(),
          requests: fc.nat(60),
          queuedTokens: fc.nat(5_000),
          freeSlots: fc.nat(2),
          hasSlotToGive: fc.boolean(),
          rate: fc.double({ min: 0, max: 50, noNaN: true }),
        })
        .map(({ presence, rate, ...view }) =>
          workerView(`worker-${id}`, {
            ...view,
            holds: { 'acme/sql': presence },
            victim: { requestsPerSecond: rate, reloadMs: 5 },
          }),
        ),
    ),
  ),
)

describe('any choice', () => {
  const seed = randomSeed('placement')

  test('is one of the accepting workers, whatever their order, and nearly the best prediction', () => {
    fc.assert(
      fc.property(views, (workers) => {
        const placement = place(request, workers, rules)
        const again = place(request, workers.toReversed(), rules)
        expect(again?.worker.id).toBe(placement?.worker.id)
        expect(placement === undefined).toBe(!workers.some(({ accepts }) => accepts))
        if (placement === undefined) return
        expect(placement.worker.accepts).toBe(true)
        const mine = placement.candidates.find(({ worker }) => worker === placement.worker)
        const best = Math.min(...placement.candidates.map(({ predictedMs }) => predictedMs))
        expect(mine?.predictedMs).toBeLessThanOrEqual(best + Math.max(rules.alikeMs, best * rules.stickiness))
      }),
      { seed, numRuns: 500 },
    )
  })

  test('looks at no more workers than have the adapter and the rules allow besides', () => {
    fc.assert(
      fc.property(views, (workers) => {
        const holders = workers.filter(
          ({ accepts, presence }) => accepts && ['device', 'arriving'].includes(presence('acme/sql')),
        )
        const { candidates } = place(request, workers, rules) ?? { candidates: [] }
        expect(candidates.length).toBeLessThanOrEqual(holders.length + rules.newcomers)
      }),
      { seed, numRuns: 300 },
    )
  })
})
