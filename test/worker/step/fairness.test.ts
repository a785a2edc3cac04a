import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TURN_TOKENS } from '../../../packages/worker/src/step/fair-order.ts'
import { PlannedWorker } from '../../support/planned-worker.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

const seed = randomSeed('fairness')
const limits = { sequences: 8, chunkTokens: 16 }

interface Client {
  readonly tenant: string
  readonly weight: number
  readonly prompt: number
  readonly answer: number
  readonly adapters: number
}

/** U: what the running sequences of one of them can still be charged at most, over its weight. */
const leftToCharge = (...clients: readonly Client[]) =>
  limits.sequences * Math.max(...clients.map(({ prompt, answer, weight }) => (prompt + 2 * answer) / weight))

const client = (tenant: string) =>
  fc.record({
    tenant: fc.constant(tenant),
    weight: fc.constantFrom(0.5, 1, 1, 1, 3),
    prompt: fc.integer({ min: 1, max: 32 }),
    answer: fc.integer({ min: 1, max: 16 }),
    adapters: fc.integer({ min: 1, max: 6 }),
  })

/** What a tenant was served over its weight, at each moment. */
const levelOf = (worker: PlannedWorker, { tenant, weight }: Client) => (worker.ledger.of(tenant)?.served ?? 0) / weight

describe('fairness between tenants', () => {
  it(`serves two tenants that always wait alike, over any time, to within 2U (SEED=${seed})`, () => {
    fc.assert(
      fc.property(client('a'), client('b'), client('c'), fc.nat(200), (a, b, c, from) => {
        const worker = new PlannedWorker({ limits: { ...limits, reservedShare: 0.25 } })
        const bound = 2 * leftToCharge(a, b)
        let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
        for (let step = 0; step < 500; step++) {
          // `b` comes only after a while, when `a` holds everything; `c` sends one request at a time.
          for (const one of step < from ? [a] : [a, b]) while (worker.requestsOf(one.tenant) < 20) worker.arrive(asRequest(one))
          if (worker.requestsOf('c') === 0 && step % 7 === 0) worker.arrive(asRequest(c))
          worker.step()
          if (step <= from) continue
          const difference = levelOf(worker, a) - levelOf(worker, b)
          least = Math.min(least, difference)
          most = Math.max(most, difference)
        }
        if (most > least) expect(most - least).toBeLessThanOrEqual(bound)
      }),
      { seed, numRuns: 20 },
    )
  })

  it('keeps that bound, and two turns more, with more adapters than slots', () => {
    fc.assert(
      fc.property(client('a'), client('b'), (a, b) => {
        const worker = new PlannedWorker({ limits, slots: 4, loadSteps: 2 })
        const random = randomFrom(seed)
        const bound = 2 * leftToCharge(a, b) + 2 * TURN_TOKENS
        let [least, most] = [0, 0]
        for (let step = 0; step < 600; step++) {
          for (const one of [a, b]) {
            while (worker.requestsOf(one.tenant) < 24) {
              worker.arrive({ ...asRequest(one), adapter: `${one.tenant}-${Math.floor(random() * one.adapters)}` })
            }
          }
          worker.step()
          const difference = levelOf(worker, a) - levelOf(worker, b)
          least = Math.min(least, difference)
          most = Math.max(most, difference)
        }
        expect(most - least).toBeLessThanOrEqual(bound)
      }),
      { seed, numRuns: 8 },
    )
  })

  it('divides by weight: three times the weight, three times the service', () => {
    const worker = new PlannedWorker({ limits })
    for (let step = 0; step < 1_000; step++) {
      for (const [tenant, weight] of [['a', 3] as const, ['b', 1] as const]) {
        while (worker.requestsOf(tenant) < 16) worker.arrive({ tenant, weight, prompt: 12, answer: 6 })
      }
      worker.step()
    }
    const [a, b] = ['a', 'b'].map((tenant) => worker.ledger.of(tenant)?.served ?? 0)
    expect((a ?? 0) / (b ?? 1)).toBeGreaterThan(2.8)
    expect((a ?? 0) / (b ?? 1)).toBeLessThan(3.2)
  })

  it('saves up nothing for who was away, and holds nothing against who used an idle worker', () => {
    const worker = new PlannedWorker({ limits })
    const flood = (tenant: string) => {
      while (worker.requestsOf(tenant) < 20) worker.arrive({ tenant, prompt: 8, answer: 8 })
    }
    const servedIn = (steps: number, ...tenants: string[]) => {
      const before = tenants.map((tenant) => worker.ledger.of(tenant)?.served ?? 0)
      for (let step = 0; step < steps; step++) {
        for (const tenant of tenants) flood(tenant)
        worker.step()
      }
      return tenants.map((tenant, index) => (worker.ledger.of(tenant)?.served ?? 0) - (before[index] ?? 0))
    }
    servedIn(500, 'a')
    const [a, b] = servedIn(500, 'a', 'b')
    expect((a ?? 0) / (b ?? 1)).toBeGreaterThan(0.85)
    expect((a ?? 0) / (b ?? 1)).toBeLessThan(1.15)
    // Everything ends; `b` alone works for long, with nobody kept from anything.
    while (worker.running.length + worker.waiting.length > 0) worker.step()
    for (let step = 0; step < 500; step++) {
      if (worker.requestsOf('b') < 4) worker.arrive({ tenant: 'b', prompt: 8, answer: 8 })
      worker.step()
    }
    const [again, other] = servedIn(500, 'a', 'b')
    expect((again ?? 0) / (other ?? 1)).toBeGreaterThan(0.85)
    expect((again ?? 0) / (other ?? 1)).toBeLessThan(1.15)
  })

  it('starves nobody although new tenants keep coming, each at the least counter', () => {
    const worker = new PlannedWorker({ limits })
    const old = Array.from({ length: 6 }, () => worker.arrive({ tenant: 'old', prompt: 30, answer: 16 }))
    // One of these is served in a step and four wait, so that there is always one at the level at which the first one came. Whoever is
    // above that level, as `old` is after its first request, would never be the least again.
    for (let step = 0; step < 1_500; step++) {
      while (worker.waiting.filter(({ client: { tenant } }) => tenant !== 'old').length < 4) {
        worker.arrive({ tenant: `new-${worker.stepCount}-${worker.waiting.length}`, prompt: 16, answer: 1 })
      }
      worker.step()
    }
    expect(old.filter(({ endedAtStep }) => endedAtStep === undefined)).toEqual([])
  })
})

function asRequest({ tenant, weight, prompt, answer }: Client) {
  return { tenant, weight, prompt, answer }
}
