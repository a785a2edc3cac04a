/** Nineteen requests at once, so that base and four adapters share batches, against what transformers and PEFT give. */
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { eventsOf, post as postAny } from '../support/gateway-under-test.ts'
import { type GoldenCase, goldenCases, sureTokens } from '../support/golden.ts'
import { NEEDS_COMPILER, operatorUnderTest } from '../support/operator-under-test.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

const tokenSchema = z.object({ id: z.int(), text: z.string(), logprob: z.number() })
const answerSchema = z.object({
  generated_text: z.string(),
  details: z.object({
    prompt_tokens: z.int(),
    prefill: z.array(z.object({ id: z.int() })),
    tokens: z.array(tokenSchema),
  }),
})
const eventSchema = z.object({ token: tokenSchema, generated_text: z.string().nullable() })

const agent = new Agent()
afterAll(() => agent.destroy())

async function post(url: string, path: string, golden: GoldenCase, parameters: object): Promise<string> {
  const { statusCode, body } = await request(url + path, {
    method: 'POST',
    dispatcher: agent,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: golden.prompt,
      parameters: { adapter_id: golden.adapter, max_new_tokens: golden.token_ids.length, ...parameters },
    }),
  })
  const text = await body.text()
  expect(statusCode, text).toBe(200)
  return text
}

const whole = async (url: string, golden: GoldenCase) =>
  answerSchema.parse(JSON.parse(await post(url, '/generate', golden, { details: true, decoder_input_details: true })))
const streamed = async (url: string, golden: GoldenCase) =>
  eventsOf(await post(url, '/generate_stream', golden, {})).map((event) => eventSchema.parse(event))

const operator = await operatorUnderTest()
test.runIf(operator === undefined)(`by our own operator: ${NEEDS_COMPILER}`, ({ skip }) => skip())
const ways = [
  { dtype: 'fp32', lora: 'standard' },
  { dtype: 'int8', lora: 'standard' },
  ...(operator === undefined
    ? []
    : ([
        { dtype: 'fp32', lora: 'operator' },
        { dtype: 'int8', lora: 'operator' },
      ] as const)),
] as const

describe.each(ways)('$dtype, adapters by $lora', ({ dtype, lora }) => {
  let server: QuiverServer
  beforeAll(async () => {
    server = await startQuiver({ env: { QUIVER_DTYPE: dtype, QUIVER_LORA: lora } })
  })
  afterAll(() => server?.stop())

  test('gives every golden case, all of them at once', async () => {
    const answers = await Promise.all(goldenCases.map((golden) => whole(server.url, golden)))
    for (const [index, { generated_text, details }] of answers.entries()) {
      const golden = goldenCases[index] as GoldenCase
      const ids = details.tokens.map(({ id }) => id)
      expect(details.prefill.map(({ id }) => id)).toEqual(golden.prompt_ids)
      const sure = dtype === 'fp32' ? golden.token_ids.length : sureTokens(golden)
      expect(ids.slice(0, sure), golden.prompt).toEqual(golden.token_ids.slice(0, sure))
      if (sure < golden.token_ids.length) continue
      expect(generated_text).toBe(golden.text)
      if (dtype === 'fp32')
        details.tokens.forEach(({ logprob }, at) => void expect(logprob).toBeCloseTo(golden.logprobs[at] ?? 0, 2))
    }
  })

  test('gives the same token by token when streamed, alone and again', async () => {
    const chosen = ['sentiment', 'shout', 'support-json', 'text-to-sql'].flatMap(
      (name) => goldenCases.find(({ adapter }) => adapter === name) ?? [],
    )
    expect(chosen).toHaveLength(4)
    const together = await Promise.all(chosen.map((golden) => streamed(server.url, golden)))
    for (const [index, golden] of chosen.entries()) {
      const events = together[index] ?? []
      expect(events.map(({ token }) => token.id)).toEqual(golden.token_ids)
      expect(events.at(-1)?.generated_text).toBe(golden.text)
      expect(events.slice(0, -1).every(({ generated_text }) => generated_text === null)).toBe(true)
      // Sums run in another order when alone, so log-probabilities differ in their last digits, choices do not.
      const alone = await streamed(server.url, golden)
      expect(alone.map(({ token }) => token.text)).toEqual(events.map(({ token }) => token.text))
    }
  })

  test('H12: prompt and answer may fill the 2,048 tokens exactly, and one more is 422', async () => {
    const golden = goldenCases.find(({ adapter }) => adapter === 'text-to-sql') as GoldenCase
    const used = golden.prompt_ids.length
    const answer = JSON.parse(await post(server.url, '/generate', golden, { max_new_tokens: 2048 - used }))
    expect(answer.generated_text).toBe(golden.text)
    const refused = await postAny(`${server.url}/generate`, {
      inputs: golden.prompt,
      parameters: { max_new_tokens: 2049 - used },
    })
    expect([refused.status, refused.json]).toEqual([
      422,
      {
        error: `Input validation error: \`inputs\` tokens + \`max_new_tokens\` must be <= 2048. Given: ${used} \`inputs\` tokens and ${2049 - used} \`max_new_tokens\``,
        error_type: 'validation',
      },
    ])
  })
})
