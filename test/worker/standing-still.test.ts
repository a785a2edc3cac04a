/** What a pause of the whole process, such as a collection of garbage or a suspended machine, does to what a worker holds. */
import { afterEach, expect, test } from 'vitest'
import { REGISTRATION_MS } from '../../packages/gateway/src/discovery/redis-registry.ts'
import { BatchHarness, type HarnessOptions } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'
import { referenceTokens } from '../support/fake-engine.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'

const STANDS_STILL_MS = 5_000

let harness: BatchHarness
afterEach(async () => {
  harness.engine.releaseSteps()
  await harness.loop.close()
  expect(harness.cache.leaseCount).toBe(0)
  expect(harness.engine.violations).toEqual([])
})

/** Its process stands still once, in its third step. */
function standingStill(options: HarnessOptions = {}): BatchHarness {
  let steps = 0
  harness = new BatchHarness({
    neverEnds: true,
    ...options,
    stepMs: () => {
      steps += 1
      return steps === 3 ? STANDS_STILL_MS : 1
    },
  })
  return harness
}

test('K02 a run keeps its adapter and its slot over five seconds in which nothing happens, and ends as it would have', async () => {
  const { cache } = standingStill()
  const run = harness.run({ inputs: 'same', on: 'a', maxNewTokens: 6 })
  expect(await run.end).toMatchObject({ type: 'done', generatedTokens: 6 })
  expect(run.tokens).toEqual(referenceTokens(fakeTokenizer().encode('same'), 6, { neverEnds: true, digest: fakeDigest('a') }))
  expect(harness.clock.nowMs()).toBeGreaterThan(STANDS_STILL_MS)
  expect(cache.residency(fakeDigest('a')).state).toBe('resident')
})

test('K02 a run whose time ended meanwhile is told so, and gets no result that is too late', async () => {
  standingStill()
  const run = harness.run({ inputs: 'same', on: 'a', maxNewTokens: 60, deadlineMs: STANDS_STILL_MS - 1_000 })
  expect(await run.end).toMatchObject({ type: 'error', code: 'deadline_exceeded' })
  expect(run.tokens.length).toBeLessThan(4)
})

test('K02 the one thing of a worker that expires elsewhere, its registration, outlives two such pauses', () => {
  expect(REGISTRATION_MS).toBeGreaterThanOrEqual(2 * STANDS_STILL_MS)
})
