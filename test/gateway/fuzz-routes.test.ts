/** Ten thousand bodies, nearly right and wild, over every route that reads one: no 500, no hang, no growth. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { randomSeed } from '../support/random-seed.ts'

const BODIES = 10_000
/** At once: no more than the gateway lets through, so that a full house stays rare. */
const TOGETHER = 4
/** A body that is not answered by then hangs. */
const PATIENCE_MS = 10_000
/** About 2 MiB are seen, the test's own log among them; two kilobytes kept of each of 8,000 requests would be 16. */
const GROWTH_BYTES = 16 * 1024 * 1024

const paths = [
  '/',
  '/generate',
  '/generate_stream',
  '/v1/completions',
  '/v1/chat/completions',
  '/v1/embeddings',
  '/tokenize',
] as const
type Path = (typeof paths)[number]

let under: GatewayUnderTest
const agent = new Agent()
beforeAll(async () => {
  under = await startGateway()
})
afterAll(async () => {
  await agent.destroy()
  await under.close()
})

const parameters = {
  ...{ adapter_id: 'text-to-sql', best_of: 2, temperature: 0.7, top_k: 40, top_p: 0.9, typical_p: 0.9, do_sample: true },
  ...{ repetition_penalty: 1.1, max_new_tokens: 20, stop: ['\n'], truncate: 10, details: true, return_k_alternatives: 3 },
  ...{ decoder_input_details: true, top_n_tokens: 2, grammar: { type: 'regex', value: '[a-z]+' }, apply_chat_template: false },
  merged_adapters: { ids: ['text-to-sql', 'text-to-sql'], weights: [0.5, 0.5], merge_strategy: 'ties', density: 0.5 },
}
const openai = {
  ...{ model: 'text-to-sql', temperature: 0.5, top_p: 0.9, n: 2, max_tokens: 20, stop: ['\n'], stream: true, logprobs: 2 },
  ...{
    stream_options: { include_usage: true },
    seed: 7,
    logit_bias: { '5': -100 },
    presence_penalty: 0.5,
    best_of: 2,
    echo: true,
  },
}
const chat = {
  ...{ ...openai, logprobs: true, top_logprobs: 2, messages: [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }] },
  response_format: { type: 'json_schema', json_schema: { name: 'one', schema: { type: 'object' } } },
  tools: [{ type: 'function', function: { name: 'look', parameters: { type: 'object' } } }],
  ...{ tool_choice: { type: 'function', function: { name: 'look' } }, parallel_tool_calls: false, tool_prompt: 'Functions:' },
}
const generate = { inputs: 'Hi', parameters, stream: true }
const complete: Readonly<Record<Path, object>> = {
  '/': generate,
  '/generate': generate,
  '/generate_stream': generate,
  '/v1/completions': { ...openai, prompt: ['Hi', 'Ho'] },
  '/v1/chat/completions': chat,
  '/v1/embeddings': {
    ...{ model: 'text-to-sql', input: [[5, 6], [7]], encoding_format: 'base64', user: 'me', adapter_source: 'store' },
    dimensions: null,
  },
  '/tokenize': { inputs: 'Hi', add_special_tokens: false },
}

const odd = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    0,
    -0,
    -1,
    0.5,
    16,
    17,
    32,
    33,
    2 ** 31,
    2 ** 53,
    2 ** 64,
    1e308,
    5e-324,
    '',
    [],
    {},
    [''],
    [null],
  ),
  fc.constantFrom('local', 'hub', '../..', 'a@sha256:b', '__base_model__', '\ud800', '__proto__', '\u0000'),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.string({ unit: 'binary' }),
  fc.jsonValue({ maxDepth: 3 }),
)

/** A few of the fields of a right body, and some of what is in them replaced. */
function nearlyRight(right: object): fc.Arbitrary<unknown> {
  return fc
    .infiniteStream(fc.nat({ max: 99 }))
    .chain((dice) => fc.infiniteStream(odd).map((odds) => mutate(right, dice, odds, 0)))
}

function mutate(value: unknown, dice: Iterator<number>, odds: Iterator<unknown>, depth: number): unknown {
  const roll = dice.next().value ?? 0
  // Most stay as they are: one wrong field hides all others behind its own refusal.
  if (depth > 0 && roll < 4) return odds.next().value
  if (Array.isArray(value)) return value.map((one) => mutate(one, dice, odds, depth + 1))
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([key]) => isNeeded(key) || (dice.next().value ?? 0) < 30)
  return Object.fromEntries(kept.map(([key, inner]) => [key, mutate(inner, dice, odds, depth + 1)]))
}

function isNeeded(key: string): boolean {
  return ['inputs', 'input', 'prompt', 'messages', 'role', 'content', 'type', 'text', 'value', 'ids', 'weights'].includes(key)
}

const wild = fc.oneof(
  fc.jsonValue({ maxDepth: 6 }).map((value) => JSON.stringify(value)),
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    '',
    '{',
    '[]',
    'null',
    '1',
    '"',
    '{"inputs":"\\ud800"}',
    '{"inputs":1e999}',
    '{"a":'.repeat(200),
    '['.repeat(5000),
  ),
)
const sent = fc
  .constantFrom(...paths)
  .chain((path) =>
    fc
      .oneof(
        { weight: 4, arbitrary: nearlyRight(complete[path]).map((body) => JSON.stringify(body) ?? '') },
        { weight: 1, arbitrary: wild },
      )
      .map((body) => ({ path, body })),
  )

test(`${BODIES} bodies find no answer outside the contract`, { timeout: 120_000 }, async () => {
  const seed = randomSeed('fuzz of the routes')
  const statuses = new Map<number, number>()
  const sizes: number[] = []
  let runs = 0
  await fc.assert(
    fc.asyncProperty(fc.array(sent, { minLength: TOGETHER, maxLength: TOGETHER }), async (bodies) => {
      const answers = await Promise.all(bodies.map(ask))
      for (const { status } of answers) statuses.set(status, (statuses.get(status) ?? 0) + 1)
      for (const answer of answers) expectContract(answer)
      under.worker.requests.length = 0
      runs++
      if (runs === 500 || runs === BODIES / TOGETHER) sizes.push(await heapBytes())
    }),
    { seed, numRuns: BODIES / TOGETHER, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true },
  )
  const [early = 0, late = Number.POSITIVE_INFINITY] = sizes
  expect(late - early).toBeLessThan(GROWTH_BYTES)
  expect(under.log.filter(({ level }) => level === 'error')).toEqual([])
  // It would prove little if all were refused.
  expect(statuses.get(200)).toBeGreaterThan(BODIES / 10)
})

interface Asked {
  readonly path: Path
  readonly status: number
  readonly type: string
  readonly text: string
}

async function ask({ path, body }: { readonly path: Path; readonly body: string }): Promise<Asked> {
  const response = await request(under.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    dispatcher: agent,
    signal: AbortSignal.timeout(PATIENCE_MS),
  })
  return { path, status: response.statusCode, type: String(response.headers['content-type']), text: await response.body.text() }
}

function expectContract({ path, status, type, text }: Asked): void {
  const isOpenai = path.startsWith('/v1/')
  if (status === 200 && type === 'text/event-stream') {
    const events = text.split('\n\n').filter((event) => event.startsWith('data:'))
    expect(events.length).toBeGreaterThan(0)
    if (isOpenai) expect(events.pop()).toBe('data: [DONE]')
    for (const event of events) expectEvent(JSON.parse(event.slice('data:'.length)), isOpenai)
    return
  }
  expect(type).toMatch(/^application\/json/)
  const json: unknown = JSON.parse(text)
  if (status === 200) {
    expect(json).toBeTypeOf('object')
    if (path === '/v1/embeddings')
      expect(json).toMatchObject({ object: 'list', data: expect.any(Array), usage: expect.any(Object) })
    return
  }
  expect([400, 404, 422, 424, 429]).toContain(status)
  expectError(json, isOpenai)
}

function expectEvent(event: unknown, isOpenai: boolean): void {
  if (typeof event === 'object' && event !== null && (isOpenai ? 'choices' : 'token') in event) return
  expectError(event, isOpenai)
}

function expectError(json: unknown, isOpenai: boolean): void {
  const error = isOpenai
    ? { message: expect.any(String), type: expect.any(String), code: expect.any(String), param: expect.anything() }
    : expect.any(String)
  expect(withParam(json)).toEqual({
    error,
    error_type: expect.stringMatching(/^(validation|generation|invalid_request|overloaded|tool_error)$/),
  })
}

/** Null as a param is right, and `anything` does not match it. */
function withParam(json: unknown): unknown {
  return JSON.parse(JSON.stringify(json), (key, value) => (key === 'param' ? (value ?? '') : value))
}

/** What is in use after a collection, when the answers' own timers have ended. */
async function heapBytes(): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  await new Promise((resolve) => setImmediate(resolve))
  if (typeof collect === 'function') collect()
  return process.memoryUsage().heapUsed
}
