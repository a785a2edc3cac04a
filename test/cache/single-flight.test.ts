import { describe, expect, it } from 'vitest'
import { type Outcome, SingleFlight } from '../../packages/cache/src/single-flight.ts'

function prepared() {
  const flights = new SingleFlight<string, number>()
  const starts: { readonly signal: AbortSignal; readonly end: PromiseWithResolvers<number> }[] = []
  const start = (signal: AbortSignal): Promise<number> => {
    const end = Promise.withResolvers<number>()
    starts.push({ signal, end })
    return end.promise
  }
  const told: Outcome<number>[] = []
  const join = () => flights.join('k', start, (outcome) => told.push(outcome))
  return { flights, starts, told, join }
}
const turn = (): Promise<void> => new Promise((done) => setImmediate(done))

describe('a single flight', () => {
  it('O17 starts once for a hundred waiters and tells each once', async () => {
    const { starts, told, join, flights } = prepared()
    for (let i = 0; i < 100; i++) join()
    expect(starts).toHaveLength(1)
    starts[0]?.end.resolve(7)
    await turn()
    expect(told).toEqual(Array(100).fill({ ok: true, value: 7 }))
    expect(flights.size).toBe(0)
  })

  it('O17 fails all waiters once', async () => {
    const { starts, told, join } = prepared()
    for (let i = 0; i < 100; i++) join()
    const reason = new Error('no')
    starts[0]?.end.reject(reason)
    await turn()
    expect(told).toEqual(Array(100).fill({ ok: false, reason }))
  })

  it('O17 goes on when one leaves, and is aborted when the last leaves', () => {
    const { starts, join } = prepared()
    const leaves = Array.from({ length: 100 }, join)
    for (const leave of leaves.slice(1)) leave()
    expect(starts[0]?.signal.aborted).toBe(false)
    leaves[0]?.()
    expect(starts[0]?.signal.aborted).toBe(true)
  })

  it('tells nothing to whoever has left, and leaving twice is leaving once', async () => {
    const { starts, told, join } = prepared()
    const leave = join()
    join()
    leave()
    leave()
    expect(starts[0]?.signal.aborted).toBe(false)
    starts[0]?.end.resolve(1)
    await turn()
    expect(told).toHaveLength(1)
    leave()
    expect(starts[0]?.signal.aborted).toBe(false)
  })

  it('starts anew after an abort, and the aborted flight does not end the new one', async () => {
    const { starts, told, join, flights } = prepared()
    join()()
    join()
    expect(starts).toHaveLength(2)
    starts[0]?.end.resolve(1)
    await turn()
    expect([told, flights.has('k')]).toEqual([[], true])
    starts[1]?.end.resolve(2)
    await turn()
    expect(told).toEqual([{ ok: true, value: 2 }])
  })

  it('can end all flights with one reason', async () => {
    const { starts, told, join, flights } = prepared()
    join()
    flights.failAll('closing')
    starts[0]?.end.resolve(1)
    await turn()
    expect([told, starts[0]?.signal.aborted, flights.size]).toEqual([[{ ok: false, reason: 'closing' }], true, 0])
  })
})
