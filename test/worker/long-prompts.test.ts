import { expect, test } from 'vitest'
import { BatchHarness } from '../support/batch-harness.ts'

const long = { inputs: `${'a'.repeat(5000)}hello`, truncate: 5 }

test('a prompt of several slices is made into tokens between turns, counts as waiting, and is answered like a short one', async () => {
  const harness = new BatchHarness()
  const run = harness.run(long)
  expect([harness.service.resolving, harness.service.state().waiting, run.events]).toEqual([1, 1, []])
  const short = harness.run({ inputs: 'hello' })
  expect((await run.end).type).toBe('done')
  await short.end
  expect(run.tokens).toEqual(short.tokens)
  expect(harness.service.resolving).toBe(0)
})

test('a client that leaves meanwhile, or a prompt that does not fit, ends in one error and holds no place', async () => {
  const harness = new BatchHarness()
  const left = harness.run(long)
  left.cancel()
  expect(await left.end).toMatchObject({ type: 'error', code: 'client_closed' })
  const refused = harness.run({ ...long, truncate: 6, maxNewTokens: 100_000 })
  expect(await refused.end).toMatchObject({ type: 'error', code: 'invalid_parameters' })
  await harness.service.drain()
  expect([left.events.length, refused.events.length, harness.service.resolving]).toEqual([1, 1, 0])
})
