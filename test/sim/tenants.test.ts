/** Tenants in one simulated worker: the planner, the ledger and the tiers are the real ones, only the device is a model of time. */
import { describe, expect, test } from 'vitest'
import { type ClosedTenant, closedLoop, quantile } from '../../bench/simulator/closed-loop.ts'
import { twoCores } from '../../bench/simulator/device-model.ts'
import { jainIndex } from '../../bench/simulator/measure.ts'
import { randomSeed } from '../support/random-seed.ts'

const seed = randomSeed('tenants')
const capacity = { sequences: 32, slots: 32, chunkTokens: 128, ramBytes: 2_000_000_000, reservedShare: 0.33 }
const request = { promptTokens: 128, newTokens: 64 }
const serial: ClosedTenant = { tenant: 'serial', atOnce: 1, pauseMs: 20, ...request }
const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, index) => from + index)

async function run(tenants: readonly ClosedTenant[], more: Partial<typeof capacity> = {}) {
  const times = await closedLoop({
    seed,
    model: twoCores,
    capacity: { ...capacity, ...more },
    tenants,
    forMs: 60_000,
    warmupMs: 8_000,
  })
  return (tenant: string) => {
    const own = times.get(tenant)
    if (own === undefined) throw new Error(`there is no tenant ${tenant}`)
    return own
  }
}

describe(`a worker with several tenants (SEED=${seed})`, () => {
  test("T04 I6 a flood of one leaves another's 99th percentile within 1.5 times that beside a half-full batch", async () => {
    const half = await run([{ tenant: 'others', atOnce: 16, ...request }, serial])
    const flooded = await run([{ tenant: 'flood', atOnce: 100, ...request }, serial])
    const [before, after] = [half, flooded].map((of) => quantile(of('serial').wholeMs, 0.99))
    expect(after ?? Number.NaN).toBeLessThanOrEqual(1.5 * (before ?? 0))
    // It does not wait for a place: one has been kept.
    expect(quantile(flooded('serial').firstTokenMs, 0.99)).toBeLessThan(500)
  })

  test('keeps the places that are reserved from costing much, and from anybody who is alone', async () => {
    const flood: ClosedTenant = { tenant: 'flood', atOnce: 100, ...request }
    const tokens = async (tenants: readonly ClosedTenant[], reservedShare: number) => {
      const of = await run(tenants, { reservedShare })
      return tenants.reduce((sum, { tenant }) => sum + of(tenant).tokens, 0)
    }
    expect(await tokens([flood], 0.33)).toBe(await tokens([flood], 0))
    expect(await tokens([flood, serial], 0.33)).toBeGreaterThan(0.92 * (await tokens([flood, serial], 0)))
  })

  test('T05 I6 a scan of cold adapters leaves others their adapters and their pace', async () => {
    const own: ClosedTenant = { ...serial, tenant: 'own', atOnce: 4, adapters: numbers(4) }
    const half = await run([{ tenant: 'others', atOnce: 12, adapters: numbers(12, 10), ...request }, own])
    const scanned = await run([{ tenant: 'scan', atOnce: 100, scansFrom: 1_000, ...request }, own])
    const [before, after] = [half, scanned].map((of) => quantile(of('own').wholeMs, 0.99))
    expect(after ?? Number.NaN).toBeLessThanOrEqual(2 * (before ?? 0))
  })

  test('serves tenants that all want more than there is alike, whatever they send', async () => {
    const tenants = numbers(6).map(
      (index): ClosedTenant => ({
        tenant: `t${index}`,
        atOnce: 12 + 4 * index,
        promptTokens: 32 * (index + 1),
        newTokens: 96 / (index + 1),
      }),
    )
    const of = await run(tenants)
    const served = tenants.map(({ tenant, promptTokens, newTokens }) => {
      const { wholeMs } = of(tenant)
      return wholeMs.length * (promptTokens + 2 * newTokens)
    })
    expect(jainIndex(served)).toBeGreaterThan(0.97)
  })

  test('keeps the time to the first token with 64 adapters in turn on 32 slots within three times that of 16', async () => {
    const times = async (adapters: number) => {
      const of = await run([{ tenant: 'one', atOnce: 16, adapters: numbers(adapters), ...request }], { sequences: 16 })
      return quantile(of('one').firstTokenMs, 0.5)
    }
    expect(await times(64)).toBeLessThanOrEqual(3 * (await times(16)))
  })

  test('serves every one of 64 adapters on 8 slots, and loses little of the pace to changing them', async () => {
    const pace = async (adapters: number) => {
      const of = await run([{ tenant: 'one', atOnce: 64, adapters: numbers(adapters), ...request }], { slots: 8 })
      return of('one')
    }
    const [many, few] = [await pace(64), await pace(8)]
    expect(many.tokens).toBeGreaterThan(0.75 * few.tokens)
    expect(many.wholeMs.at(-1)).toBeLessThan(30_000)
  })
})
