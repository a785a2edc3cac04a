import { limits } from '@quiver/protocol'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, sqlDigest, startGateway } from '../support/gateway-under-test.ts'
import { randomSeed } from '../support/random-seed.ts'
import { accepted, done, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

const two = { ids: ['text-to-sql', 'text-to-sql'], weights: [0.75, -0.5] }
const ask = (merged_adapters: object, more: object = {}, route = '/generate') =>
  under.post(route, { inputs: 'Hi', parameters: { merged_adapters, ...more } })
const sqlRef = { kind: 'registered', name: 'text-to-sql', digest: sqlDigest }

describe('what the worker is asked for', () => {
  test('the members in their order with weights and method', async () => {
    const parameters = { ...two, merge_strategy: 'dare_ties', density: 0.3, majority_sign_method: 'frequency' }
    expect((await ask(parameters)).status).toBe(200)
    expect(under.worker.requests[0]?.adapter).toEqual({
      kind: 'merged',
      members: [
        { ref: sqlRef, weight: 0.75 },
        { ref: sqlRef, weight: -0.5 },
      ],
      strategy: 'dare_ties',
      density: 0.3,
      sign: 'frequency',
    })
  })

  test('linear and total are what nulls and absent fields mean, and the density of linear is without effect', async () => {
    await ask(two)
    await ask({ ...two, merge_strategy: null, density: null, majority_sign_method: null })
    await ask({ ...two, merge_strategy: 'LINEAR', density: 0.5, majority_sign_method: 'Total' }, { adapter_id: '' })
    const [first, second, third] = under.worker.requests.map(({ adapter }) => adapter)
    expect(first).toMatchObject({ strategy: 'linear', density: 1, sign: 'total' })
    expect([second, third]).toEqual([first, first])
  })

  test('with adapter_source local the ids are folders', async () => {
    const { headers } = await ask({ ids: ['a b/c', '/d'], weights: [1, 1] }, { adapter_source: 'local' })
    expect(under.worker.requests[0]?.adapter).toMatchObject({
      members: [{ ref: { kind: 'local', path: 'a b/c' } }, { ref: { kind: 'local', path: '/d' } }],
    })
    expect(headers).toMatchObject({ 'x-adapter-id': 'a b/c,/d', 'x-adapter-source': 'local' })
  })
})

test('the ids come back joined by commas, with the digest that the worker derived', async () => {
  const derived = 'c'.repeat(64)
  under.worker.script = (run) => {
    run.send({ ...accepted, adapterDigest: derived } as typeof accepted, token('Hello', true), done('Hello'))
    run.end()
  }
  for (const route of ['/generate', '/generate_stream']) {
    expect((await ask(two, {}, route)).headers).toMatchObject({
      'x-adapter-id': 'text-to-sql,text-to-sql',
      'x-adapter-source': 'store',
      'x-adapter-digest': derived,
    })
  }
})

const many = limits.mergedAdapters + 1
const headerText =
  '`ids` of `merged_adapters` must have only printable ASCII characters, without a space at either end, and together at most 4096 of them'
/** In the order in which they are checked. */
const refusals: readonly [what: string, merged: object, text: string][] = [
  ['no ids', { ids: [], weights: [] }, 'at least one adapter ID must be provided when setting `adapters`'],
  ['no ids, but weights', { ids: [], weights: [1] }, 'at least one adapter ID must be provided when setting `adapters`'],
  ['no weights', { ids: ['text-to-sql'] }, 'number of adapter IDs must match number of adapter weights'],
  ['too few weights', { ...two, weights: [1] }, 'number of adapter IDs must match number of adapter weights'],
  ['too many weights', { ...two, weights: [1, 1, 1] }, 'number of adapter IDs must match number of adapter weights'],
  [
    'too many ids',
    { ids: Array(many).fill('text-to-sql'), weights: Array(many).fill(1) },
    `\`merged_adapters\` supports up to ${limits.mergedAdapters} adapter IDs. Given: ${many}`,
  ],
  ['a weight beyond float32', { ...two, weights: [1, 1e39] }, '`weights` of `merged_adapters` must be finite numbers of 32 bits'],
  [
    'an unknown strategy',
    { ...two, merge_strategy: 'average', majority_sign_method: 'x' },
    '`merge_strategy` must be one of linear, ties, dare_linear, dare_ties',
  ],
  [
    'an unknown sign method',
    { ...two, majority_sign_method: 'x', density: -1 },
    '`majority_sign_method` must be one of total, frequency',
  ],
  ['a negative density', { ...two, density: -0.1 }, '`density` must be >= 0.0 and <= 1.0. Given: -0.1'],
  ['a density above 1', { ...two, merge_strategy: 'ties', density: 1.5 }, '`density` must be >= 0.0 and <= 1.0. Given: 1.5'],
  ...['ties', 'dare_linear', 'dare_ties'].flatMap((merge_strategy) =>
    [undefined, null, 0].map((density): [string, object, string] => [
      `density ${density} with ${merge_strategy}`,
      { ...two, merge_strategy, density },
      `\`density\` must be > 0.0 with \`merge_strategy\` ${merge_strategy}: nothing would be left of the adapters`,
    ]),
  ),
  ['a line end in an id', { ...two, ids: ['text-to-sql', 'a\nb'] }, headerText],
  ['a letter beyond ASCII in an id', { ...two, ids: ['é', '../x'] }, headerText],
  ['a space around an id', { ...two, ids: ['text-to-sql', ' a'] }, headerText],
  ['ids that are too long together', { ...two, ids: ['a'.repeat(4000), 'b'.repeat(200)] }, headerText],
  [
    'what is no name',
    { ...two, ids: ['text-to-sql', '../x'] },
    'adapter name "../x" is not valid: use letters, digits, ".", "_", "-" and "/", starting with a letter or digit, at most 128 characters',
  ],
]

describe('is refused with 422, in a stream with one event:', () => {
  test.each(refusals)('%s', async (_, merged, text) => {
    const expected = { error: `Input validation error: ${text}`, error_type: 'validation' }
    // A rule that comes later in LoRAX's order is broken too.
    const whole = await ask(merged, { temperature: -1 })
    expect([whole.status, whole.json]).toEqual([422, expected])
    const stream = await ask(merged, { temperature: -1 }, '/generate_stream')
    expect([stream.status, eventsOf(stream.text)]).toEqual([200, [expected]])
    expect(under.worker.requests).toEqual([])
  })

  test('an adapter_id beside it, before anything else', async () => {
    const { status, json } = await ask({ ids: [] }, { adapter_id: 'text-to-sql' })
    const error = 'Input validation error: at most one of `adapter_id` or `adapters` may be provided'
    expect([status, json]).toEqual([422, { error, error_type: 'validation' }])
  })
})

describe('is refused with 424 as any adapter that cannot be had:', () => {
  test.each([
    ['the base model', ['text-to-sql', '__base_model__'], {}, 'Base model adapter cannot be merged.'],
    ['the base model by an empty id', ['', 'text-to-sql'], {}, 'Base model adapter cannot be merged.'],
    ['an unknown member', ['text-to-sql', 'nobody'], {}, "Adapter 'nobody' is not known here. There are: text-to-sql."],
    ['an unknown source', two.ids, { adapter_source: 'ftp' }, "Invalid source 'ftp' when downloading adapter 'text-to-sql'"],
  ])('%s', async (_, ids, more, text) => {
    const { status, json } = await ask({ ...two, ids }, more)
    const error = `Request failed during generation: Server error: ${text}`
    expect([status, json]).toEqual([424, { error, error_type: 'generation' }])
  })
})

test('500 random merges find no answer outside the contract', { timeout: 60_000 }, async () => {
  const seed = randomSeed('merged_adapters')
  const odd = fc.oneof(fc.constantFrom(null, 0, 1, -1, 1e39, '', 'x', [], {}, [null], true), fc.double({ noNaN: true }))
  const merged = fc.record(
    {
      ids: fc.oneof(
        fc.array(fc.constantFrom('text-to-sql', 'nobody', '', '__base_model__', '../x', 'a\u0000'), { maxLength: 10 }),
        odd,
      ),
      weights: fc.oneof(fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { maxLength: 10 }), odd),
      merge_strategy: fc.oneof(fc.constantFrom('linear', 'TIES', 'dare_linear', 'dare_ties', '__proto__'), odd),
      density: fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), odd),
      majority_sign_method: fc.oneof(fc.constantFrom('total', 'frequency', 'constructor'), odd),
    },
    { requiredKeys: ['ids'] },
  )
  const sound = fc
    .integer({ min: 1, max: 8 })
    .map((count) => ({ ids: Array(count).fill('text-to-sql'), weights: Array(count).fill(1) }))
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        merged,
        fc.tuple(merged, sound).map(([drawn, right]) => ({ ...drawn, ...right })),
        odd,
      ),
      async (drawn) => {
        const { status, json } = await ask(drawn as object)
        expect([200, 422, 424]).toContain(status)
        if (status !== 200)
          expect(json).toEqual({ error: expect.any(String), error_type: status === 422 ? 'validation' : 'generation' })
      },
    ),
    { seed, numRuns: 500 },
  )
  expect(under.log.filter(({ level }) => level === 'error')).toEqual([])
})
