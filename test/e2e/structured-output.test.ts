/** Answers of a given form from the real model, beside one another and beside answers without. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { goldenCases } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

let server: QuiverServer
beforeAll(async () => {
  server = await startQuiver()
})
afterAll(() => server?.stop())

const answerSchema = z.object({
  generated_text: z.string(),
  details: z.object({ finish_reason: z.string(), tokens: z.array(z.object({ text: z.string(), logprob: z.number() })) }),
})
const generate = async (inputs: string, parameters: object) => {
  const answer = await post(`${server.url}/generate`, {
    inputs,
    parameters: { max_new_tokens: 120, details: true, ...parameters },
  })
  expect(answer.status, answer.text).toBe(200)
  return answerSchema.parse(answer.json)
}

const ticket = {
  type: 'object',
  properties: {
    category: { enum: ['billing', 'technical', 'account'] },
    urgency: { type: 'integer', minimum: 1, maximum: 5 },
    refund: { type: 'boolean' },
  },
  required: ['category', 'urgency', 'refund'],
}
const ticketSchema = z.strictObject({
  category: z.enum(['billing', 'technical', 'account']),
  urgency: z.int().min(1).max(5),
  refund: z.boolean(),
})
const support = goldenCases.find(({ adapter }) => adapter === 'support-json')
const inputs = support?.prompt ?? ''

test('an adapter answers by the schema, greedy and drawn, while others answer without', async () => {
  const format = { response_format: { type: 'json_schema', schema: ticket } }
  const plain = { adapter_id: 'support-json', max_new_tokens: support?.token_ids.length }
  const [before, greedy, drawn, digits, base] = await Promise.all([
    generate(inputs, plain),
    generate(inputs, { ...format, adapter_id: 'support-json' }),
    generate(inputs, { ...format, adapter_id: 'support-json', do_sample: true, temperature: 1.3, seed: 5 }),
    generate('My number is', { grammar: { type: 'regex', value: ' \\d{3}-\\d{4}' } }),
    generate('1, 2, 3, 4,', { max_new_tokens: 8 }),
  ])
  for (const answer of [greedy, drawn]) {
    expect(answer.details.finish_reason).toBe('eos_token')
    expect(() => ticketSchema.parse(JSON.parse(answer.generated_text)), answer.generated_text).not.toThrow()
  }
  expect(digits.generated_text).toMatch(/^ \d{3}-\d{4}$/)
  expect(before.generated_text).toBe((await generate(inputs, plain)).generated_text)
  expect(base.generated_text).toBe((await generate('1, 2, 3, 4,', { max_new_tokens: 8 })).generated_text)
})

test('a stream of it is the same text', async () => {
  const parameters = { adapter_id: 'support-json', max_new_tokens: 120, response_format: { type: 'json_object', schema: ticket } }
  const whole = await generate(inputs, parameters)
  const answer = await post(`${server.url}/generate_stream`, { inputs, parameters })
  const events = eventsOf(answer.text).map((event) => z.object({ generated_text: z.string().nullable() }).parse(event))
  expect(events.at(-1)?.generated_text).toBe(whole.generated_text)
})

test('a schema that does not compile is 422 and says why', async () => {
  const response_format = { type: 'json_schema', schema: { type: 'nope' } }
  const answer = await post(`${server.url}/generate`, { inputs: 'Hi', parameters: { response_format } })
  expect([answer.status, answer.json]).toEqual([
    422,
    { error: 'Input validation error: the grammar cannot be used: Unsupported type "nope"', error_type: 'validation' },
  ])
})
