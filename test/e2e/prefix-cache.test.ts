/** The prefix cache of the real server: the real model, golden cases asked again, and tenants that must not see each other. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { type ApiKey, makeKey } from '../../packages/gateway/src/auth/api-key.ts'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { goldenCases, sureTokens } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

const tenants = ['acme', 'spy'] as const
type Tenant = (typeof tenants)[number]
const secrets = new Map<Tenant, string>()

let folder: string
let server: QuiverServer
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'quiver-keys-'))
  const keys: ApiKey[] = []
  for (const tenant of tenants) {
    const made = makeKey({ tenant, rights: ['generate', 'admin'] }, { drawBytes: randomBytes, now: () => new Date() })
    secrets.set(tenant, made.secret)
    keys.push(made.entry)
  }
  await writeFile(path.join(folder, 'keys.json'), JSON.stringify({ version: 1, keys }), { mode: 0o600 })
  server = await startQuiver({ env: { QUIVER_KEYS: path.join(folder, 'keys.json') } })
})
afterAll(async () => {
  await server?.stop()
  await rm(folder, { recursive: true, force: true })
})

const answerSchema = z.object({
  choices: z.array(z.object({ text: z.string(), logprobs: z.object({ tokens: z.array(z.string()) }) })).length(1),
  usage: z.object({ prompt_tokens: z.int(), prompt_tokens_details: z.object({ cached_tokens: z.int() }) }),
})

async function ask(tenant: Tenant, model: string, prompt: string, more: object = {}) {
  const body = { model, prompt, temperature: 0, max_tokens: 12, logprobs: 0, ...more }
  const { status, text, json } = await post(`${server.url}/v1/completions`, body, { 'x-api-key': secrets.get(tenant) ?? '' })
  expect(status, text).toBe(200)
  const { choices, usage } = answerSchema.parse(json)
  return {
    tokens: choices[0]?.logprobs.tokens,
    promptTokens: usage.prompt_tokens,
    cached: usage.prompt_tokens_details.cached_tokens,
  }
}

/** Prompts that found a beginning so far. */
async function hits(): Promise<number> {
  const answer = await fetch(`${server.url}/metrics`, { headers: { 'x-api-key': secrets.get('acme') ?? '' } })
  const [, value] = /^quiver_prefix_lookups_total\{result="hits"\} (\d+)$/m.exec(await answer.text()) ?? []
  return Number(value)
}

/** Some 200 tokens, different for every test. */
const story = (name: string) =>
  `${name} went to the market and bought apples, pears, bread, cheese and a small knife. `.repeat(12)

const adapters = ['', 'shout', 'text-to-sql', 'sentiment']

test('W15: one prompt by base and adapters shares nothing between them, and each answers again what it answered cold', async () => {
  const prompt = story('Ada')
  const cold = []
  for (const model of adapters) cold.push(await ask('acme', model, prompt))
  expect(cold.map(({ cached }) => cached)).toEqual([0, 0, 0, 0])
  const warm = await Promise.all(adapters.map((model) => ask('acme', model, prompt)))
  expect(warm.map(({ tokens }) => tokens)).toEqual(cold.map(({ tokens }) => tokens))
  for (const { cached, promptTokens } of warm) expect(cached).toBe(Math.floor((promptTokens - 1) / 16) * 16)
})

test('T07: a tenant is told of its own prompts and never of another one', async () => {
  const prompt = story('Bertha')
  const cached = async (tenant: Tenant, more = {}) => (await ask(tenant, '', prompt, more)).cached
  const [first, foreign, own, salted] = [
    await cached('acme'),
    await cached('spy'),
    await cached('acme'),
    await cached('acme', { cache_salt: 'mine' }),
  ]
  expect([first, foreign, salted]).toEqual([0, 0, 0])
  expect(own).toBeGreaterThan(150)
})

test('a stream says in its usage what was there', async () => {
  const body = {
    ...{ model: '', prompt: story('Clara'), max_tokens: 2, stream: true, stream_options: { include_usage: true } },
  }
  const last = async () => {
    const { text } = await post(`${server.url}/v1/completions`, body, { 'x-api-key': secrets.get('acme') ?? '' })
    return eventsOf(text.replace('data: [DONE]\n\n', '')).at(-1)
  }
  expect(await last()).toMatchObject({ usage: { prompt_tokens_details: { cached_tokens: 0 } } })
  expect(await last()).toMatchObject({ usage: { prompt_tokens_details: { cached_tokens: expect.toSatisfy((n) => n > 150) } } })
})

test('golden cases asked twice, so that the second time finds what the first computed, answer as they must', async () => {
  const before = await hits()
  const tokensSchema = z.object({ details: z.object({ tokens: z.array(z.object({ id: z.int() })) }) })
  for (let round = 0; round < 2; round += 1) {
    const answers = await Promise.all(
      goldenCases.map(({ prompt, adapter, token_ids: ids }) =>
        post(
          `${server.url}/generate`,
          { inputs: prompt, parameters: { adapter_id: adapter, max_new_tokens: ids.length, details: true } },
          { 'x-api-key': secrets.get('acme') ?? '' },
        ),
      ),
    )
    for (const [at, { json }] of answers.entries()) {
      const golden = goldenCases[at]
      const ids = tokensSchema.parse(json).details.tokens.map(({ id }) => id)
      const sure = golden === undefined ? 0 : sureTokens(golden)
      expect(ids.slice(0, sure), golden?.prompt).toEqual(golden?.token_ids.slice(0, sure))
    }
  }
  // Those whose prompt has more than a block of 16 tokens.
  expect((await hits()) - before).toBeGreaterThanOrEqual(goldenCases.filter(({ prompt_ids: ids }) => ids.length > 16).length)
})
