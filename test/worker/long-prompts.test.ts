import { limits } from '@quiver/protocol'
import { expect, test } from 'vitest'
import { workOf } from '../../packages/worker/src/run-work.ts'
import { atOnce } from '../../packages/worker/src/tokenizer/slices.ts'
import { BatchHarness, endsWith, greedy, runRequest } from '../support/batch-harness.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'

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

// The gateway takes no longer line, and what it could not read was answered as a lost worker.
test('details of a prompt whose event its reader would not take are refused by name, and all that fit are sent', () => {
  const totalTokens = 200_000
  const tokenizer = fakeTokenizer()
  const deps = { tokenizer, createSampler: greedy, createStops: endsWith, vocabSize: 100, inputTokens: totalTokens, totalTokens }
  const work = (count: number, prefillDetails = true) =>
    atOnce(workOf(runRequest({ inputs: '', prompt: { kind: 'tokens', ids: Array(count).fill(2) }, prefillDetails }), deps))
  const most = Math.floor((limits.runEventBytes - 32) / 67)
  const { promptIds } = work(most)
  const tokens = promptIds.map(() => ({ id: 9_999_999, text: 'a', logprob: -Math.PI * 1e-10 }))
  expect(Buffer.byteLength(`${JSON.stringify({ type: 'prefill', tokens })}\n`)).toBeLessThanOrEqual(limits.runEventBytes)
  expect(() => work(most + 1)).toThrow(/^`decoder_input_details` .* would take more than 4194304 bytes/)
  expect(work(most + 1, false).promptIds).toHaveLength(most + 1)
})
