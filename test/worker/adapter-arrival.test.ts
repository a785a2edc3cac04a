/** Requests that wait for an adapter no longer than they may, while its load goes on for the others. */
import { afterEach, describe, expect, it } from 'vitest'
import { BatchHarness, type HarnessOptions } from '../support/batch-harness.ts'

let harness: BatchHarness
const start = (options: HarnessOptions): BatchHarness => {
  harness = new BatchHarness(options)
  return harness
}
afterEach(async () => {
  await harness.loop.close()
  expect([harness.cache.leaseCount, harness.fatal]).toEqual([0, []])
})

describe('a request whose adapter does not arrive in time', () => {
  it('is told so, its load goes on, and who may wait longer is served when it comes', async () => {
    const { cache, clock } = start({ arrivalMs: 500 })
    cache.behave('slow', { held: true })
    const first = harness.run({ on: 'slow' })
    await harness.turns()
    clock.advance(300)
    const second = harness.run({ on: 'slow' })
    await harness.turns()
    clock.advance(200)
    expect(await first.end).toEqual({
      type: 'error',
      code: 'adapter_arriving',
      message: 'adapter "slow" did not arrive within 500 ms; it is still being loaded: try again in a moment',
    })
    expect(cache.leftLoading).toEqual(['slow'])
    expect(second.events.map(({ type }) => type)).toEqual(['accepted'])
    cache.letGo('slow')
    expect((await second.end).type).toBe('done')
    expect(harness.loop.state().finished).toMatchObject({ late: 1, length: 1 })
  })

  it('leaves no load behind when its client goes away instead', async () => {
    const { cache } = start({ arrivalMs: 500 })
    cache.behave('slow', { held: true })
    const run = harness.run({ on: 'slow' })
    await harness.turns()
    run.cancel()
    expect(await run.end).toMatchObject({ code: 'client_closed' })
    expect([cache.leftLoading, cache.leaseCount]).toEqual([[], 0])
    cache.letGo('slow')
  })

  it('has not more time than the whole request has', async () => {
    const { cache, clock } = start({ arrivalMs: 500 })
    cache.behave('slow', { held: true })
    const run = harness.run({ on: 'slow', deadlineMs: 50 })
    await harness.turns()
    clock.advance(50)
    expect(await run.end).toMatchObject({ code: 'adapter_arriving', message: expect.stringContaining('within 50 ms') })
    cache.letGo('slow')
  })

  it('may go on waiting for a slot when the adapter is in memory', async () => {
    const { cache, clock, engine } = start({ arrivalMs: 500, slots: 1, neverEnds: true })
    const holder = harness.run({ on: 'a', maxNewTokens: 60 })
    await engine.stepBegun(1)
    engine.holdSteps()
    const waiter = harness.run({ on: 'b', maxNewTokens: 1 })
    await harness.turns()
    clock.advance(600)
    engine.releaseSteps()
    expect([(await holder.end).type, (await waiter.end).type]).toEqual(['done', 'done'])
    expect(cache.leftLoading).toEqual([])
  })

  it('is told so also while the adapter is still looked up', async () => {
    const { cache, clock } = start({ arrivalMs: 500 })
    cache.behave('lost', { resolveHeld: true })
    const run = harness.run({ on: 'lost' })
    await harness.turns()
    clock.advance(500)
    expect(await run.end).toMatchObject({ code: 'adapter_arriving', message: expect.stringContaining('the adapter did not') })
    cache.letGo('lost')
    await harness.turns()
  })
})
