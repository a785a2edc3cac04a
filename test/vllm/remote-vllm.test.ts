/** Quiver in front of the real vLLM: what the stub of the other tests pretends is held against what the server does. */
import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { type GoldenCase, goldenCases } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'
import { startVllm, type VllmServer } from '../support/vllm-server.ts'

const tokenSchema = z.object({ id: z.int(), logprob: z.number().nullable() })
const answerSchema = z.object({
  generated_text: z.string(),
  details: z.object({ seed: z.number().nullable(), prefill: z.array(tokenSchema), tokens: z.array(tokenSchema) }),
})

/**
 * The server computes in float32 as the golden answers were, with other kernels: a choice between two tokens whose logits are
 * closer than this may fall the other way, and nothing is compared from there on.
 */
const CLOSE_MARGIN = 0.01
const LOGPROB_TOLERANCE = 5e-3

let vllm: VllmServer
let server: QuiverServer

beforeAll(async () => {
  vllm = await startVllm()
  server = await startQuiver({
    env: { QUIVER_ENGINE: 'remote', QUIVER_REMOTE: vllm.url, QUIVER_SLOTS: '2', QUIVER_MAX_RANK: '16' },
  })
})
afterAll(async () => {
  await server?.stop()
  await vllm?.stop()
})

async function generate(inputs: string, parameters: Readonly<Record<string, unknown>>) {
  const { status, json, text } = await post(`${server.url}/generate`, { inputs, parameters: { details: true, ...parameters } })
  expect(status, text).toBe(200)
  return answerSchema.parse(json)
}

const golden = (one: GoldenCase, more: Readonly<Record<string, unknown>> = {}) =>
  generate(one.prompt, { adapter_id: one.adapter, max_new_tokens: one.token_ids.length, ...more })

function sureCount({ margin }: GoldenCase): number {
  const close = margin.findIndex((gap) => gap < CLOSE_MARGIN)
  return close === -1 ? margin.length : close
}

const loaded = async () => {
  const { body } = await request(`${vllm.url}/v1/models`)
  const { data } = z
    .object({ data: z.array(z.object({ id: z.string(), parent: z.string().nullish() })) })
    .parse(await body.json())
  return data.flatMap(({ id, parent }) => (typeof parent === 'string' ? [id] : []))
}

const caseOf = (adapter: string | null): GoldenCase => {
  const found = goldenCases.find((one) => one.adapter === adapter)
  return found ?? expect.fail(`no golden answer of ${adapter}`)
}

describe('the real vLLM as the engine', () => {
  test.each([null, 'support-json', 'shout'])('answers as PEFT does: %s', async (adapter) => {
    const cases = goldenCases.filter((one) => one.adapter === adapter)
    const answers = await Promise.all(cases.map((one) => golden(one)))
    for (const [index, one] of cases.entries()) {
      const tokens = answers[index]?.details.tokens ?? []
      const sure = sureCount(one)
      expect(tokens.slice(0, sure).map(({ id }) => id)).toEqual(one.token_ids.slice(0, sure))
      for (const [at, wanted] of one.logprobs.slice(0, sure).entries()) {
        expect(Math.abs((tokens[at]?.logprob ?? Number.NaN) - wanted)).toBeLessThan(LOGPROB_TOLERANCE)
      }
      if (sure === one.token_ids.length) expect(answers[index]?.generated_text).toBe(one.text)
    }
  })

  test('holds as many adapters as it has slots, and gives the one up that makes way', async () => {
    await golden(caseOf('support-json'), { max_new_tokens: 1 })
    await golden(caseOf('shout'), { max_new_tokens: 1 })
    const before = await loaded()
    await golden(caseOf('text-to-sql'), { max_new_tokens: 1 })
    const after = await loaded()
    expect([before.length, after.length]).toEqual([2, 2])
    expect(after.filter((name) => before.includes(name))).toHaveLength(1)
  })

  test('answers alike when the server has lost an adapter', async () => {
    const first = await golden(caseOf('shout'))
    for (const lora_name of await loaded()) await post(`${vllm.url}/v1/unload_lora_adapter`, { lora_name })
    expect(await loaded()).toEqual([])
    const again = await golden(caseOf('shout'))
    expect(again.generated_text).toBe(first.generated_text)
    expect(await loaded()).toHaveLength(1)
  })

  test('tells the prompt, alternatives, and the log-probabilities of both', async () => {
    const one = caseOf(null)
    const { details } = await golden(one, { decoder_input_details: true })
    expect(details.prefill.map(({ id }) => id)).toEqual(one.prompt_ids)
    expect(details.prefill.slice(1).every(({ logprob }) => logprob !== null && logprob <= 0)).toBe(true)
  })

  test('draws the same text with the same seed', async () => {
    const sampled = () => golden(caseOf(null), { do_sample: true, temperature: 1.5, seed: 7, max_new_tokens: 12 })
    const [first, second] = [await sampled(), await sampled()]
    expect([second.generated_text, second.details.seed]).toEqual([first.generated_text, 7])
  })

  test('keeps to a form', async () => {
    const { generated_text: text } = await generate(caseOf(null).prompt, {
      max_new_tokens: 60,
      response_format: {
        type: 'json_object',
        schema: { type: 'object', properties: { city: { type: 'string', maxLength: 12 } }, required: ['city'] },
      },
    })
    expect(z.object({ city: z.string() }).safeParse(JSON.parse(text)).success).toBe(true)
  })

  test('refuses by name what it cannot do', async () => {
    const { status, text } = await post(`${server.url}/generate`, {
      inputs: 'x',
      parameters: { do_sample: true, typical_p: 0.5 },
    })
    expect([status, text]).toEqual([422, expect.stringContaining('typical_p')])
  })

  test('streams every token by itself', async () => {
    const one = caseOf('support-json')
    const { text } = await post(`${server.url}/generate_stream`, {
      inputs: one.prompt,
      parameters: { adapter_id: one.adapter, max_new_tokens: 6 },
    })
    expect(eventsOf(text)).toHaveLength(6)
  })
})
