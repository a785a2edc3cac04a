/** Guessing ahead on the real server: the golden cases as they are without it, and how what was guessed is told. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { type GoldenCase, goldenCases } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

let server: QuiverServer
beforeAll(async () => {
  // A number and not `auto`: drafts must not depend on how busy the machine is that runs this.
  server = await startQuiver({ env: { QUIVER_DTYPE: 'fp32', QUIVER_SPECULATION: '8' } })
})
afterAll(() => server?.stop())

const tokenSchema = z.object({ id: z.int(), skipped: z.boolean() })
const answerSchema = z.object({
  generated_text: z.string(),
  details: z.object({ generated_tokens: z.int(), skipped_tokens: z.int(), tokens: z.array(tokenSchema) }),
})
const eventSchema = z.object({ token: tokenSchema, generated_text: z.string().nullable() })

async function answer(golden: Pick<GoldenCase, 'prompt' | 'adapter'>, parameters: object) {
  const body = { inputs: golden.prompt, parameters: { adapter_id: golden.adapter, details: true, ...parameters } }
  const { status, text, json, headers } = await post(`${server.url}/generate`, body)
  expect(status, text).toBe(200)
  return { ...answerSchema.parse(json), headers }
}

/** Guessed tokens that the server has computed so far. */
async function drafted(): Promise<number> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text()
  return Number(/^quiver_worker_drafted_tokens_total (\d+)$/m.exec(metrics)?.[1])
}

const repetitive = {
  prompt: '<|im_start|>user\nRepeat this ten times: the cat sat on the mat.<|im_end|>\n<|im_start|>assistant\n',
  adapter: null,
}

test('gives every golden case token by token, all of them at once', async () => {
  const before = await drafted()
  const answers = await Promise.all(goldenCases.map((golden) => answer(golden, { max_new_tokens: golden.token_ids.length })))
  for (const [index, { generated_text, details }] of answers.entries()) {
    const golden = goldenCases[index]
    expect(details.tokens.map(({ id }) => id)).toEqual(golden?.token_ids)
    expect(generated_text).toBe(golden?.text)
  }
  expect(await drafted()).toBeGreaterThan(before)
})

test('marks and counts the tokens that took no step, in answers, headers and streams alike', async () => {
  const { details, headers } = await answer(repetitive, { max_new_tokens: 64 })
  const marked = details.tokens.filter(({ skipped }) => skipped).length
  expect(marked).toBeGreaterThan(2)
  expect(details).toMatchObject({ skipped_tokens: marked, generated_tokens: details.tokens.length })
  expect(headers).toMatchObject({ 'x-skipped-tokens': String(marked) })
  const body = { inputs: repetitive.prompt, parameters: { max_new_tokens: 64 } }
  const events = eventsOf((await post(`${server.url}/generate_stream`, body)).text).map((event) => eventSchema.parse(event))
  expect(events.map(({ token }) => token)).toEqual(details.tokens)
})

test('draws with a seed what it drew before, with other requests beside it', async () => {
  const parameters = { max_new_tokens: 40, do_sample: true, temperature: 0.8, top_p: 0.9, seed: 12 }
  const alone = await answer(repetitive, parameters)
  const [again] = await Promise.all([answer(repetitive, parameters), answer(repetitive, { max_new_tokens: 30 })])
  expect(again.details.tokens.map(({ id }) => id)).toEqual(alone.details.tokens.map(({ id }) => id))
})
