import { afterEach, describe, expect, test } from 'vitest'
import { BatchHarness, type HarnessOptions, type HarnessRun } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'
import { fakeMean, fakeVocabSize } from '../support/fake-engine.ts'
import { fakeTokenizer } from '../support/fake-tokenizer.ts'

let harness: BatchHarness
const start = (options: HarnessOptions = {}): BatchHarness => {
  harness = new BatchHarness(options)
  return harness
}
afterEach(async () => {
  await harness.loop.close()
  expect(harness.engine.violations).toEqual([])
  expect(harness.fatal).toEqual([])
  expect(harness.engine.held).toEqual([])
  expect(harness.cache.leaseCount).toBe(0)
})

const goal = 'embedding' as const
const ids = (text: string): number[] => fakeTokenizer().encode(text)

/** The values of a run's one embedding. */
function embeddingOf({ events }: HarnessRun): number[] {
  const found = events.flatMap((event) => (event.type === 'embedding' ? [event.values] : []))
  expect(found).toHaveLength(1)
  const bytes = Buffer.from(found[0] ?? '', 'base64')
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4))
}

describe('an embedding', () => {
  test('is the mean of the hidden states of its text, told once between acceptance and the end', async () => {
    const { clock } = start()
    const run = harness.run({ inputs: 'hello', goal })
    expect(await run.end).toMatchObject({
      type: 'done',
      promptTokens: 5,
      generatedTokens: 0,
      generatedText: '',
      finishReason: 'length',
    })
    expect(run.events.map(({ type }) => type)).toEqual(['accepted', 'embedding', 'done'])
    expect(embeddingOf(run)).toEqual([...fakeMean(ids('hello'), undefined)])
    expect(clock.pending).toBe(0)
  })

  test('is computed with the adapter of its run, which it then gives back', async () => {
    start()
    const [plain, adapted] = [harness.run({ inputs: 'hello', goal }), harness.run({ inputs: 'hello', goal, on: 'a' })]
    await Promise.all([plain.end, adapted.end])
    expect(embeddingOf(adapted)).toEqual([...fakeMean(ids('hello'), fakeDigest('a'))])
    expect(embeddingOf(adapted)).not.toEqual(embeddingOf(plain))
    expect(harness.loop.state().leases).toEqual({ adapters: 0, slots: 0 })
  })

  test('of a long text comes in chunks like any prompt, and the text generated beside it goes on at every step', async () => {
    const { engine } = start({ chunkTokens: 8, neverEnds: true })
    const text = harness.run({ inputs: 'hi', maxNewTokens: 20 })
    const long = harness.run({ inputs: 'x'.repeat(60), goal })
    await Promise.all([text.end, long.end])
    expect(embeddingOf(long)).toEqual([...fakeMean(ids('x'.repeat(60)), undefined)])
    const ofLong = engine.steps.filter(({ pooled = [] }) => pooled.length > 0)
    expect(ofLong.map(({ rows }) => rows.length).every((count) => count <= 9)).toBe(true)
    expect(ofLong.length).toBeGreaterThanOrEqual(8)
    expect(ofLong.every(({ wanted }) => wanted.length <= 1)).toBe(true)
    expect(text.tokens).toHaveLength(20)
  })

  test('is the same for a text and for its tokens', async () => {
    start()
    const [text, tokens] = [
      harness.run({ inputs: 'hello', goal }),
      harness.run({ prompt: { kind: 'tokens', ids: ids('hello') }, goal }),
    ]
    await Promise.all([text.end, tokens.end])
    expect(embeddingOf(tokens)).toEqual(embeddingOf(text))
  })

  test('may be of as many tokens as a prompt may have, and one more is refused by name', async () => {
    start({ inputTokens: 20 })
    const [fits, tooLong, farTooLong] = [20, 21, 500].map((length) => harness.run({ inputs: 'x'.repeat(length), goal }))
    expect(await fits?.end).toMatchObject({ type: 'done', promptTokens: 20 })
    const refusal = (given: string) => ({
      type: 'error',
      code: 'invalid_parameters',
      message: `\`input\` must have at most 20 tokens. Given: ${given}`,
    })
    expect(await tooLong?.end).toEqual(refusal('21'))
    expect(await farTooLong?.end).toEqual(refusal('at least 50'))
  })

  test('of a token that the model does not have is refused by its number', async () => {
    start()
    const run = harness.run({ prompt: { kind: 'tokens', ids: [3, fakeVocabSize] }, goal })
    expect(await run.end).toMatchObject({
      code: 'invalid_parameters',
      message: '`input` holds token 64, but the model has only 64 tokens',
    })
  })

  test('leaves nothing behind when its client goes, its deadline passes or its step fails', async () => {
    const { engine, clock } = start({ chunkTokens: 4 })
    engine.holdSteps()
    const leaves = harness.run({ inputs: 'x'.repeat(40), goal, on: 'a' })
    await engine.stepBegun(1)
    leaves.cancel()
    engine.releaseSteps()
    expect(await leaves.end).toMatchObject({ type: 'error', code: 'client_closed' })
    engine.holdSteps()
    const late = harness.run({ inputs: 'x'.repeat(40), goal, deadlineMs: 50 })
    await engine.stepBegun(engine.steps.length + 1)
    clock.advance(60)
    engine.releaseSteps()
    expect(await late.end).toMatchObject({
      code: 'deadline_exceeded',
      message: expect.stringContaining('with 4 of 40 tokens computed'),
    })
    engine.failNextStep(new Error('the device coughed'))
    expect(await harness.run({ inputs: 'x', goal }).end).toMatchObject({ type: 'error', code: 'internal' })
    expect(leaves.events.concat(late.events).some(({ type }) => type === 'embedding')).toBe(false)
  })

  test('that is not finite ends its own run alone', async () => {
    const { engine } = start()
    const mean = engine.meanHidden.bind(engine)
    engine.meanHidden = (sequence) => mean(sequence).fill(Number.NaN)
    const [broken, other] = [harness.run({ inputs: 'hello', goal }), harness.run({ inputs: 'hello', maxNewTokens: 3 })]
    expect(await broken.end).toMatchObject({ code: 'internal', message: expect.stringContaining('no finite') })
    expect(await other.end).toMatchObject({ type: 'done' })
  })
})
