/** The real openai SDK of npm against a running server. */
import OpenAI, { APIUserAbortError, NotFoundError, UnprocessableEntityError } from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { distance, embeddingCases } from '../support/embedding-fixtures.ts'
import { goldenCases } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

/** Of numbers of about 1, between our fp32 and transformers'. */
const EMBEDDING_TOLERANCE = 2e-3

const base = 'smollm2-135m-instruct'
const adapters = ['sentiment', 'shout', 'support-json', 'text-to-sql']
const counting = { model: base, prompt: '1, 2, 3, 4,', temperature: 0 }
const story = {
  model: base,
  messages: [{ role: 'user' as const, content: 'Tell me a story.' }],
  max_tokens: 12,
}

let server: QuiverServer
let client: OpenAI
beforeAll(async () => {
  // fp32 gives PEFT's tokens to the last; int8 may part from them where two are nearly equal.
  server = await startQuiver({ env: { QUIVER_DTYPE: 'fp32' } })
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 60_000 })
})
afterAll(() => server?.stop())

async function collected<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of stream) all.push(one)
  return all
}

describe('models', () => {
  test('the base model and every adapter are listed', async () => {
    const models = await collected(await client.models.list())
    expect(models.map(({ id, object, owned_by }) => [id, object, owned_by])).toEqual(
      [base, ...adapters].map((id) => [id, 'model', 'quiver']),
    )
  })

  test('one of them is retrieved, and an unknown one raises NotFoundError', async () => {
    expect(await client.models.retrieve('shout')).toMatchObject({ id: 'shout', object: 'model', created: expect.any(Number) })
    await expect(client.models.retrieve('nobody/nothing')).rejects.toBeInstanceOf(NotFoundError)
  })
})

describe('completions', () => {
  const asRequest = ({ adapter, prompt, token_ids }: (typeof goldenCases)[number]) => ({
    model: adapter ?? base,
    prompt,
    max_tokens: token_ids.length,
    temperature: 0,
  })

  test('every golden case has the text that PEFT gives', async () => {
    const answers = await Promise.all(goldenCases.map((one) => client.completions.create(asRequest(one))))
    expect(answers.map(({ choices }) => choices[0]?.text)).toEqual(goldenCases.map(({ text }) => text))
  })

  test('so has every golden case as a stream', async () => {
    const texts = await Promise.all(
      goldenCases.map(async (one) => {
        const chunks = await collected(await client.completions.create({ ...asRequest(one), stream: true }))
        return chunks.map(({ choices }) => choices[0]?.text).join('')
      }),
    )
    expect(texts).toEqual(goldenCases.map(({ text }) => text))
  })

  test('the stop text is not in the answer, whole and streamed', async () => {
    const whole = await client.completions.create({ ...counting, max_tokens: 32, stop: ' 7' })
    const chunks = await collected(await client.completions.create({ ...counting, max_tokens: 32, stop: [' 7'], stream: true }))
    expect(whole.choices[0]).toMatchObject({ text: ' 5, 6,', finish_reason: 'stop' })
    expect(chunks.map(({ choices }) => choices[0]?.text).join('')).toBe(' 5, 6,')
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('stop')
  })

  test('an echo begins with the prompt, and log-probabilities cover every token', async () => {
    const { choices, usage } = await client.completions.create({ ...counting, max_tokens: 3, echo: true, logprobs: 2 })
    const listed = choices[0]?.logprobs
    expect(choices[0]?.text).toMatch(/^1, 2, 3, 4, 5/)
    expect(listed?.tokens?.join('')).toBe(choices[0]?.text)
    expect(listed?.token_logprobs).toHaveLength(listed?.tokens?.length ?? 0)
    expect(listed?.text_offset?.[0]).toBe(0)
    expect(usage).toMatchObject({ completion_tokens: 3, total_tokens: (usage?.prompt_tokens ?? 0) + 3 })
  })
})

describe('chat', () => {
  test('is the same whole and streamed, and the last chunk has the usage', async () => {
    const greedy = { ...story, model: 'shout', temperature: 0 }
    const whole = await client.chat.completions.create(greedy)
    const chunks = await collected(
      await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } }),
    )
    expect(whole).toMatchObject({ object: 'chat.completion', model: 'shout' })
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(whole.choices[0]?.message.content)
    expect(chunks[0]?.choices[0]?.delta.role).toBe('assistant')
    expect(chunks.slice(0, -1).map(({ usage }) => usage)).toEqual(chunks.slice(0, -1).map(() => null))
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  })

  test("the SDK's own gathering of a stream ends with the same message", async () => {
    const greedy = { ...story, temperature: 0 }
    const whole = await client.chat.completions.create(greedy)
    const gathered = await client.chat.completions.stream(greedy).finalChatCompletion()
    expect(gathered.choices[0]?.message.content).toBe(whole.choices[0]?.message.content)
    expect(gathered.choices[0]?.finish_reason).toBe('length')
  })

  test('choices differ, and a seed replays all of them', async () => {
    const texts = async (seed: number) => {
      const { choices } = await client.chat.completions.create({ ...story, n: 3, seed })
      expect(choices.map(({ index }) => index)).toEqual([0, 1, 2])
      return choices.map(({ message }) => message.content)
    }
    const first = await texts(7)
    expect(new Set(first).size).toBeGreaterThan(1)
    expect(await texts(7)).toEqual(first)
    expect(await texts(8)).not.toEqual(first)
  })

  test('log-probabilities name the greedy token as the likeliest', async () => {
    const { choices } = await client.chat.completions.create({ ...story, temperature: 0, logprobs: true, top_logprobs: 3 })
    const listed = choices[0]?.logprobs?.content ?? []
    expect(listed).toHaveLength(12)
    for (const { token, logprob, top_logprobs } of listed) {
      expect(top_logprobs).toHaveLength(3)
      expect(top_logprobs[0]).toMatchObject({ token, logprob })
    }
  })

  test('an answer of a JSON schema parses and fits it', async () => {
    const schema = {
      type: 'object',
      properties: { colour: { enum: ['red', 'green', 'blue'] }, warm: { type: 'boolean' } },
      required: ['colour', 'warm'],
      additionalProperties: false,
    }
    const { choices } = await client.chat.completions.create({
      model: base,
      messages: [{ role: 'user', content: 'Name a colour as JSON.' }],
      max_tokens: 60,
      temperature: 0,
      response_format: { type: 'json_schema', json_schema: { name: 'colour', strict: true, schema } },
    })
    expect(choices[0]?.finish_reason).toBe('stop')
    expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({
      colour: expect.stringMatching(/^(red|green|blue)$/),
      warm: expect.any(Boolean),
    })
  })
})

describe('tools', () => {
  const parameters = {
    type: 'object',
    properties: { city: { enum: ['Oslo', 'Rome'] }, celsius: { type: 'boolean' } },
    required: ['city', 'celsius'],
    additionalProperties: false,
  }
  const weather = { type: 'function' as const, function: { name: 'weather', description: 'Says the weather.', parameters } }
  const asked = {
    model: base,
    messages: [{ role: 'user' as const, content: 'What is the weather in Rome, in Celsius?' }],
    tools: [weather],
    tool_choice: { type: 'function' as const, function: { name: 'weather' } },
    max_tokens: 80,
    temperature: 0,
  }
  const fitting = { city: expect.stringMatching(/^(Oslo|Rome)$/), celsius: expect.any(Boolean) }
  const functionOf = (call: OpenAI.ChatCompletionMessageToolCall | undefined) =>
    call?.type === 'function' ? call.function : { name: '', arguments: 'null' }

  test('a named function is called with arguments that fit its schema', async () => {
    const [choice] = (await client.chat.completions.create(asked)).choices
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null, tool_calls: { length: 1 } } })
    const { name, arguments: given } = functionOf(choice?.message.tool_calls?.[0])
    expect([name, JSON.parse(given)]).toEqual(['weather', fitting])
  })

  test("the SDK's own gathering of a stream ends with the same call", async () => {
    const whole = await client.chat.completions.create(asked)
    const gathered = await client.chat.completions.stream(asked).finalChatCompletion()
    const [of] = [whole, gathered].map(({ choices }) => functionOf(choices[0]?.message.tool_calls?.[0]))
    expect(functionOf(gathered.choices[0]?.message.tool_calls?.[0])).toMatchObject({ name: of?.name, arguments: of?.arguments })
    expect(gathered.choices[0]?.finish_reason).toBe('tool_calls')
  })

  test('required calls at least one of them, and a result goes back to the model', async () => {
    const now = { type: 'function' as const, function: { name: 'now' } }
    const required = { ...asked, tools: [now], tool_choice: 'required' as const, parallel_tool_calls: false }
    const [choice] = (await client.chat.completions.create(required)).choices
    const call = choice?.message.tool_calls?.[0]
    expect(functionOf(call)).toMatchObject({ name: 'now' })
    if (choice === undefined || call === undefined) return
    const result = { role: 'tool' as const, tool_call_id: call.id, content: 'It is noon.' }
    const answer = await client.chat.completions.create({
      ...asked,
      messages: [...asked.messages, choice.message, result],
      tool_choice: 'none',
      max_tokens: 8,
    })
    expect(answer.choices[0]?.message.content).not.toBe('')
  })

  test('with auto the model may answer as it likes', async () => {
    const [choice] = (await client.chat.completions.create({ ...asked, tool_choice: 'auto' })).choices
    expect(['stop', 'length', 'tool_calls']).toContain(choice?.finish_reason)
    expect(choice?.message.content === null).toBe(choice?.message.tool_calls !== undefined)
  })

  test('a function that is not offered raises UnprocessableEntityError with the reason', async () => {
    const choice = { type: 'function' as const, function: { name: 'launch' } }
    const raised = await client.chat.completions.create({ ...asked, tool_choice: choice }).catch((error: unknown) => error)
    expect(raised).toBeInstanceOf(UnprocessableEntityError)
    expect(raised).toMatchObject({ code: 'tool_error', param: 'tool_choice', message: expect.stringContaining('launch') })
  })
})

describe('embeddings', () => {
  test.each(embeddingCases)('with $adapter are those of transformers and PEFT, decoded by the SDK or as numbers', async (one) => {
    const model = one.adapter ?? base
    const decoded = await client.embeddings.create({ model, input: one.input })
    const plain = await client.embeddings.create({ model, input: one.tokens, encoding_format: 'float' })
    expect(decoded).toMatchObject({
      object: 'list',
      model,
      usage: { prompt_tokens: one.tokens.length, total_tokens: one.tokens.length },
    })
    expect(distance(decoded.data[0]?.embedding ?? [], one.embedding)).toBeLessThan(EMBEDDING_TOLERANCE)
    expect(plain.data[0]?.embedding).toEqual(decoded.data[0]?.embedding)
  })

  test('come beside texts that are generated, with several adapters, and change none of them', async () => {
    const asked = { ...counting, max_tokens: 24 }
    const alone = await client.completions.create(asked)
    const inputs = Array.from({ length: 5 }, (_, at) => 'a quick brown fox '.repeat(at * 9 + 1))
    const [text, ...embedded] = await Promise.all([
      client.completions.create(asked),
      ...[base, 'shout', 'support-json'].map((model) => client.embeddings.create({ model, input: inputs })),
    ])
    expect(text?.choices[0]?.text).toBe(alone.choices[0]?.text)
    for (const { data } of embedded)
      expect(data.map(({ index, embedding }) => [index, embedding.length])).toEqual(inputs.map((_, at) => [at, 576]))
  })

  test('of a model that does not exist raise NotFoundError, and dimensions UnprocessableEntityError', async () => {
    await expect(client.embeddings.create({ model: 'nobody/nothing', input: 'Hi' })).rejects.toBeInstanceOf(NotFoundError)
    await expect(client.embeddings.create({ model: base, input: 'Hi', dimensions: 64 })).rejects.toMatchObject({
      status: 422,
      param: 'dimensions',
    })
  })

  test('are called off by an abort, and the server goes on serving', async () => {
    const aborting = new AbortController()
    const asked = client.embeddings.create({ model: base, input: Array(200).fill('so '.repeat(40)) }, { signal: aborting.signal })
    // By then its first texts are being computed.
    await client.embeddings.create({ model: base, input: 'Hi' })
    aborting.abort()
    await expect(asked).rejects.toBeInstanceOf(APIUserAbortError)
    expect((await client.embeddings.create({ model: base, input: 'Hi' })).data).toHaveLength(1)
  })
})

describe('failures', () => {
  test.each([false, true])('an unknown model raises NotFoundError (stream: %s)', async (stream) => {
    const asked = client.chat.completions.create({ ...story, model: 'nobody/nothing', stream })
    const raised = await asked.then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(raised).toBeInstanceOf(NotFoundError)
    expect(raised).toMatchObject({ status: 404, code: 'adapter_not_found', param: 'model', requestID: expect.any(String) })
  })

  test('a bad parameter raises UnprocessableEntityError with the reason and the field', async () => {
    const raised = await client.completions.create({ ...counting, temperature: -1 }).catch((error: unknown) => error)
    expect(raised).toBeInstanceOf(UnprocessableEntityError)
    expect(raised).toMatchObject({
      code: 'invalid_parameters',
      type: 'invalid_request_error',
      message: expect.stringContaining('`temperature` must be non-negative'),
    })
  })

  test('too many tokens raise the same, also for a stream', async () => {
    const asked = client.completions.create({ ...counting, max_tokens: 100_000, stream: true })
    await expect(asked.then(collected)).rejects.toMatchObject({ message: expect.stringContaining('must be <= 2048') })
  })

  test('an abort ends a whole answer and a stream, and the server goes on serving', async () => {
    const long = { ...counting, max_tokens: 1500, ignore_eos_token: true }
    const aborting = new AbortController()
    const whole = client.completions.create(long, { signal: aborting.signal })
    aborting.abort()
    await expect(whole).rejects.toBeInstanceOf(APIUserAbortError)
    const stream = await client.completions.create({ ...long, stream: true })
    for await (const _ of stream) break
    expect(stream.controller.signal.aborted).toBe(true)
    expect((await client.completions.create({ ...counting, max_tokens: 2 })).choices[0]?.text).toBe(' 5')
  })
})
