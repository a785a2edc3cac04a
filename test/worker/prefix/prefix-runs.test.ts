import { expect, test } from 'vitest'
import { BatchHarness, type HarnessRun, type RunParts } from '../../support/batch-harness.ts'
import { fakeDigest } from '../../support/fake-adapter-cache.ts'
import { referenceTokens } from '../../support/fake-engine.ts'
import { fakeTokenizer } from '../../support/fake-tokenizer.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

const BLOCK = 16
/** 70 tokens: four blocks and six tokens. */
const prompt = 'abcdefghij'.repeat(7)

/** What a run was answered with, and how much of its prompt was not computed for it. */
async function answered(run: HarnessRun) {
  const end = await run.end
  expect(end).toMatchObject({ type: 'done' })
  return { tokens: run.tokens, cached: end.type === 'done' ? (end.cachedTokens ?? 0) : Number.NaN }
}

const expected = (inputs: string, count: number, on?: string) =>
  referenceTokens(fakeTokenizer().encode(inputs), count, {
    digest: on === undefined ? undefined : fakeDigest(on),
    ignoreEos: true,
  })

const withCache = (options: ConstructorParameters<typeof BatchHarness>[0] = {}) =>
  new BatchHarness({ prefixBytes: 1 << 20, chunkTokens: 32, ...options })

async function ask(harness: BatchHarness, parts: RunParts & { on?: string }) {
  const answer = await answered(harness.run({ inputs: prompt, ...parts }))
  await harness.turns()
  return answer
}

test('a second prompt that begins alike computes only its rest, and answers the same', async () => {
  const harness = withCache()
  const cold = await ask(harness, {})
  const warm = await ask(harness, {})
  const longer = await ask(harness, { inputs: `${prompt}zzz` })
  expect([cold, warm].map(({ tokens }) => tokens)).toEqual([expected(prompt, 5), expected(prompt, 5)])
  expect(longer.tokens).toEqual(expected(`${prompt}zzz`, 5))
  expect([cold, warm, longer].map(({ cached }) => cached)).toEqual([0, 4 * BLOCK, 4 * BLOCK])
  expect(harness.loop.state()).toMatchObject({
    prefillRows: 70 + 6 + 9,
    prefix: { hits: 2, misses: 1, cachedTokens: 8 * BLOCK, blocks: 4 },
  })
})

test('a request uses what another one has computed while that still runs', async () => {
  const harness = withCache()
  const first = harness.run({ inputs: prompt, maxNewTokens: 60 })
  await harness.engine.stepBegun(6)
  const second = await ask(harness, {})
  expect(second).toEqual({ tokens: expected(prompt, 5), cached: 4 * BLOCK })
  expect((await answered(first)).tokens).toEqual(expected(prompt, 60))
})

test('W15: the same prompt by two adapters and by the base shares nothing, and each answers as without a cache', async () => {
  const harness = withCache()
  for (const on of ['sql', 'jokes', undefined]) {
    const asked = on === undefined ? {} : { on }
    expect(await ask(harness, asked)).toEqual({ tokens: expected(prompt, 5, on), cached: 0 })
  }
  for (const on of ['sql', 'jokes', undefined]) {
    const asked = on === undefined ? {} : { on }
    expect(await ask(harness, asked)).toEqual({ tokens: expected(prompt, 5, on), cached: 4 * BLOCK })
  }
  expect(harness.engine.violations).toEqual([])
})

test('T07: a tenant finds its own prompts and nobody else finds them', async () => {
  const harness = withCache()
  const cached = async (tenant: string) => (await ask(harness, { tenant })).cached
  expect([await cached('acme'), await cached('spy'), await cached('acme'), await cached('spy')]).toEqual([0, 0, 64, 64])
})

test('a tenant parts its requests by a salt', async () => {
  const harness = withCache()
  const cached = async (parts: RunParts) => (await ask(harness, parts)).cached
  expect([
    await cached({ cacheSalt: 'one' }),
    await cached({ cacheSalt: 'two' }),
    await cached({}),
    await cached({ cacheSalt: 'one' }),
  ]).toEqual([0, 0, 0, 64])
})

test('a prompt of which every row is wanted is computed whole and leaves nothing behind', async () => {
  const harness = withCache()
  for (const parts of [{ prefillDetails: true }, { goal: 'embedding' as const }]) {
    await harness.run({ inputs: prompt, ...parts }).end
    await harness.run({ inputs: prompt, ...parts }).end
  }
  await harness.turns()
  expect(harness.loop.state()).toMatchObject({ prefillRows: 4 * 70, prefix: { hits: 0, misses: 0, blocks: 0 } })
})

test('a prompt whose answer is one token is kept, though it leaves in the step that computed it', async () => {
  const harness = withCache({ chunkTokens: 128 })
  await ask(harness, { maxNewTokens: 1 })
  expect((await ask(harness, { maxNewTokens: 1 })).cached).toBe(4 * BLOCK)
})

test('a client that leaves in the middle of its prompt leaves whole blocks of finished steps', async () => {
  const harness = withCache({ chunkTokens: 24 })
  const run = harness.run({ inputs: prompt })
  await harness.engine.stepBegun(2)
  run.cancel()
  await run.end
  await harness.turns()
  expect(harness.loop.state().prefix?.blocks).toBe(1)
  expect(await ask(harness, {})).toEqual({ tokens: expected(prompt, 5), cached: BLOCK })
})

test('a step that fails puts nothing in', async () => {
  const harness = withCache()
  harness.engine.failNextStep(new Error('the device coughed'))
  await harness.run({ inputs: prompt }).end
  await harness.turns()
  expect(harness.loop.state().prefix?.blocks).toBe(0)
  expect(await ask(harness, {})).toEqual({ tokens: expected(prompt, 5), cached: 0 })
})

test('those who wait together for one prompt copy what the first of them computes', async () => {
  const harness = withCache({ sequences: 8, chunkTokens: 16, totalTokens: 512 })
  const long = prompt.repeat(4)
  const runs = Array.from({ length: 4 }, () => harness.run({ inputs: long }))
  const answers = await Promise.all(runs.map(answered))
  for (const { tokens } of answers) expect(tokens).toEqual(expected(long, 5))
  // The chunk belongs to the first until its prompt is computed.
  expect(harness.loop.state().prefillRows).toBeLessThan(1.5 * long.length)
})

test('without a cache no prompt is shared and none is named', async () => {
  const harness = new BatchHarness()
  await ask(harness, {})
  expect((await ask(harness, {})).cached).toBe(0)
  expect(harness.loop.state().prefix).toBeUndefined()
})

test('whatever comes, leaves and fails, answers are those of no cache and the engine is asked for nothing wrong', async () => {
  const random = randomFrom(randomSeed('prefix runs'))
  const below = (count: number) => Math.floor(random() * count)
  // Room for 24 blocks, of which one prompt alone may want 12.
  const harness = new BatchHarness({ prefixBytes: 24 * BLOCK * 8, sequences: 6, slots: 3, chunkTokens: 32 })
  const beginnings = ['a', 'b', 'c'].map((letter) => letter.repeat(192))
  const runs: { run: HarnessRun; inputs: string; on: string | undefined }[] = []
  let lastFailure = 0
  while (runs.length < 300) {
    for (let arrivals = below(4); arrivals > 0; arrivals -= 1) {
      const inputs = `${beginnings[below(3)]?.slice(0, below(193))}${'xyz'[below(3)]}${'q'.repeat(below(20))}`
      const on = [undefined, 'sql', 'jokes'][below(3)]
      const parts = { inputs, tenant: `tenant-${below(2)}`, maxNewTokens: 1 + below(6), ...(on === undefined ? {} : { on }) }
      runs.push({ run: harness.run(parts), inputs, on })
    }
    if (below(4) === 0) runs[below(runs.length)]?.run.cancel()
    if (below(20) === 0 && harness.engine.steps.length > lastFailure + 2) {
      lastFailure = harness.engine.steps.length
      harness.engine.failNextStep(new Error('the device coughed'))
    }
    await harness.turns(below(6))
  }
  for (const { run, inputs, on } of runs) {
    const end = await run.end
    const all = expected(inputs, 6, on)
    expect(run.tokens, inputs).toEqual(all.slice(0, run.tokens.length))
    if (end.type === 'done') expect(run.tokens.length).toBe(end.generatedTokens)
  }
  await harness.turns()
  const { prefix, leases } = harness.loop.state()
  expect(prefix?.hits).toBeGreaterThan(5)
  expect(prefix?.evicted).toBeGreaterThan(5)
  expect(prefix?.blocks).toBeLessThanOrEqual(24)
  expect([harness.engine.violations, harness.engine.held, harness.fatal, leases]).toEqual([[], [], [], { adapters: 0, slots: 0 }])
})

// Copies were taken for the time of the few rows that were computed beside them, and prompts behind a hit went on in smaller pieces.
test('what copying takes is not taken for the time of rows, by which prompts are cut to keep the pace', async () => {
  const harness = withCache({ neverEnds: true, keepsPace: true, stepMs: ({ rows }) => 8 + rows.length * 0.3 })
  const copyIn = harness.engine.copyIn.bind(harness.engine)
  harness.engine.copyIn = (...copy) => {
    harness.clock.advance(10)
    copyIn(...copy)
  }
  const stream = harness.run({ inputs: 'a', maxNewTokens: 200 })
  await harness.engine.stepBegun(20)
  await ask(harness, {})
  for (const letter of ['k', 'l', 'm', 'n', 'o']) {
    const before = harness.engine.steps.length
    expect(await ask(harness, { inputs: `${prompt}${letter.repeat(40)}`, maxNewTokens: 1 })).toMatchObject({ cached: 4 * BLOCK })
    const prompts = harness.engine.steps.slice(before).filter(({ rows }) => rows.length > 1)
    expect(prompts.length, `steps for 46 rows of ${letter}`).toBe(3)
  }
  stream.cancel()
  await stream.end
})
