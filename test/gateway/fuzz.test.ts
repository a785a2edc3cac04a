/** Random bodies: whatever comes, the answer is one of the documented ones. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'

let under: GatewayUnderTest
beforeAll(async () => {
  under = await startGateway()
})
afterAll(() => under.close())

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31)

const names = [
  ...'adapter_id adapter_source merged_adapters api_token best_of temperature repetition_penalty frequency_penalty'.split(' '),
  ...'presence_penalty top_k top_p typical_p do_sample max_new_tokens ignore_eos_token return_full_text stop'.split(' '),
  ...'truncate watermark details decoder_input_details seed return_k_alternatives top_n_tokens response_format'.split(' '),
  ...'grammar apply_chat_template __proto__ constructor toString'.split(' '),
]
const value = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    0,
    -0,
    1,
    -1,
    0.5,
    2,
    32,
    33,
    2 ** 53,
    1e308,
    5e-324,
    '',
    'text-to-sql',
    'local',
    'hub',
    [],
    {},
    ['a'],
    [''],
    [null],
  ),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.string({ unit: 'binary' }),
  fc.array(fc.string(), { maxLength: 20 }),
  fc.jsonValue({ maxDepth: 3 }),
)
const parameters = fc.oneof(
  { weight: 9, arbitrary: fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 6 }) },
  { weight: 1, arbitrary: value },
)
const body = fc.record(
  {
    inputs: fc.oneof({ weight: 5, arbitrary: fc.string({ unit: 'binary', minLength: 1 }) }, { weight: 1, arbitrary: value }),
    parameters,
    stream: value,
  },
  { requiredKeys: [] },
)
const path = fc.constantFrom('/', '/generate', '/generate_stream', '/invocations')

test('1,000 random bodies find no answer outside the contract', { timeout: 60_000 }, async () => {
  console.log(`SEED=${seed}`)
  await fc.assert(
    fc.asyncProperty(path, body, async (route, sent) => {
      const answer = await under.post(route, JSON.stringify(sent))
      expect([200, 422, 424]).toContain(answer.status)
      if (answer.headers['content-type'] === 'text/event-stream') {
        for (const event of eventsOf(answer.text)) expectAnswerOrError(event)
      } else if (answer.status !== 200) expectAnswerOrError(answer.json)
    }),
    { seed, numRuns: 1000 },
  )
  expect(under.log.filter(({ level }) => level === 'error')).toEqual([])
})

function expectAnswerOrError(event: unknown): void {
  if (typeof event === 'object' && event !== null && 'token' in event) return
  expect(event).toEqual({ error: expect.any(String), error_type: expect.stringMatching(/^(validation|generation)$/) })
}
