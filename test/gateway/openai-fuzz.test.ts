/** Random bodies for the OpenAI routes: whatever comes, the answer is one of the documented ones. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'

let under: GatewayUnderTest
beforeAll(async () => {
  under = await startGateway()
})
afterAll(() => under.close())

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31)

const names = [
  ...'model temperature top_p n max_tokens stop stream stream_options presence_penalty frequency_penalty seed logit_bias'.split(
    ' ',
  ),
  ...'top_k typical_p repetition_penalty ignore_eos_token adapter_source api_token max_completion_tokens logprobs'.split(' '),
  ...'top_logprobs response_format tools tool_choice best_of echo suffix __proto__ constructor'.split(' '),
]
const value = fc.oneof(
  fc.constantFrom(null, true, false, 0, 1, -1, 0.5, 2, 17, 2 ** 53, 1e308, '', 'text-to-sql', 'tgi', 'local', [], {}, [''], {
    '5': 1,
  }),
  fc.constantFrom(
    { type: 'json_object' },
    { type: 'json_schema', json_schema: { schema: { type: 'object' } } },
    { include_usage: true },
  ),
  fc.integer(),
  fc.string({ unit: 'binary' }),
  fc.jsonValue({ maxDepth: 3 }),
)
const message = fc.record(
  { role: fc.oneof(fc.constantFrom('user', 'tool'), value), content: value, name: value, tool_calls: value, tool_call_id: value },
  { requiredKeys: ['role'] },
)
const prompt = fc.oneof({ weight: 3, arbitrary: fc.string({ unit: 'binary', minLength: 1 }) }, { weight: 1, arbitrary: value })
const messages = fc.oneof(
  { weight: 3, arbitrary: fc.constant([{ role: 'user', content: 'Hi' }]) },
  { weight: 2, arbitrary: fc.array(message, { maxLength: 3 }) },
  { weight: 1, arbitrary: value },
)
const body = fc
  .tuple(fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 5 }), prompt, messages)
  .map(([fields, text, conversation]) => ({ ...fields, prompt: text, messages: conversation }))
const path = fc.constantFrom('/v1/completions', '/v1/chat/completions')

test('1,000 random bodies find no answer outside the contract', { timeout: 60_000 }, async () => {
  console.log(`SEED=${seed}`)
  await fc.assert(
    fc.asyncProperty(path, body, async (route, sent) => {
      const { status, json, text, headers } = await under.post(route, JSON.stringify(sent))
      expect([200, 404, 422, 424]).toContain(status)
      if (status !== 200) {
        expect(json).toEqual({
          error: {
            message: expect.any(String),
            type: 'invalid_request_error',
            code: expect.any(String),
            param: expect.toSatisfy(isParam),
          },
          error_type: expect.stringMatching(/^(validation|generation)$/),
        })
      } else if (headers['content-type'] === 'text/event-stream') expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
      else expect(json).toMatchObject({ choices: expect.any(Array), usage: expect.any(Object) })
    }),
    { seed, numRuns: 1000 },
  )
  expect(under.log.filter(({ level }) => level === 'error')).toEqual([])
})

function isParam(param: unknown): boolean {
  return param === null || typeof param === 'string'
}
