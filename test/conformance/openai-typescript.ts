/** What the openai SDK of npm sees of a running server. */
import OpenAI, { APIUserAbortError, NotFoundError, UnprocessableEntityError } from 'openai'
import { expect } from 'vitest'
import { distance, embeddingCases } from '../support/embedding-fixtures.ts'
import { goldenCases } from '../support/golden.ts'
import type { Check } from './check.ts'

/** Of numbers of about 1, between our fp32 and transformers'. */
const EMBEDDING_TOLERANCE = 2e-3

const base = 'smollm2-135m-instruct'
const adapters = ['sentiment', 'shout', 'support-json', 'text-to-sql']
const counting = { model: base, prompt: '1, 2, 3, 4,', temperature: 0 }
const story = { model: base, messages: [{ role: 'user' as const, content: 'Tell me a story.' }], max_tokens: 8 }

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
  max_tokens: 60,
  temperature: 0,
}
const functionOf = (call: OpenAI.ChatCompletionMessageToolCall | undefined) =>
  call?.type === 'function' ? call.function : { name: '', arguments: 'null' }

async function collected<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of stream) all.push(one)
  return all
}

export function openaiTypescriptChecks(url: string): readonly Check[] {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 200_000 })
  const check = (name: string, run: Check['run']): Check => ({ name: `openai-ts: ${name}`, run })
  const { chat, completions, embeddings, models } = client
  const asRequest = ({ adapter, prompt, token_ids }: (typeof goldenCases)[number]) => ({
    ...{ model: adapter ?? base, prompt, max_tokens: token_ids.length, temperature: 0 },
  })
  return [
    check('every golden case, all at once', async () => {
      const answers = await Promise.all(goldenCases.map((one) => completions.create(asRequest(one))))
      expect(answers.map(({ choices }) => choices[0]?.text)).toEqual(goldenCases.map(({ text }) => text))
    }),
    check('every golden case streamed, all at once', async () => {
      const texts = await Promise.all(
        goldenCases.map(async (one) => {
          const chunks = await collected(await completions.create({ ...asRequest(one), stream: true }))
          return chunks.map(({ choices }) => choices[0]?.text).join('')
        }),
      )
      expect(texts).toEqual(goldenCases.map(({ text }) => text))
    }),
    check('the base model and every adapter are listed', async () => {
      const listed = await collected(await models.list())
      expect(listed.map(({ id, object, owned_by }) => [id, object, owned_by])).toEqual(
        [base, ...adapters].map((id) => [id, 'model', 'quiver']),
      )
    }),
    check('a model is retrieved, and an unknown one raises NotFoundError', async () => {
      expect(await models.retrieve('shout')).toMatchObject({ id: 'shout', object: 'model', created: expect.any(Number) })
      await expect(models.retrieve('nobody/nothing')).rejects.toBeInstanceOf(NotFoundError)
    }),
    check('the stop text is not in the answer, whole and streamed', async () => {
      const whole = await completions.create({ ...counting, max_tokens: 16, stop: ' 7' })
      const chunks = await collected(await completions.create({ ...counting, max_tokens: 16, stop: [' 7'], stream: true }))
      expect(whole.choices[0]).toMatchObject({ text: ' 5, 6,', finish_reason: 'stop' })
      expect(chunks.map(({ choices }) => choices[0]?.text).join('')).toBe(' 5, 6,')
      expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('stop')
    }),
    check('an echo begins with the prompt, and log-probabilities cover every token', async () => {
      const { choices, usage } = await completions.create({ ...counting, max_tokens: 3, echo: true, logprobs: 2 })
      const listed = choices[0]?.logprobs
      expect(listed?.tokens?.join('')).toBe(choices[0]?.text)
      expect(listed?.token_logprobs).toHaveLength(listed?.tokens?.length ?? 0)
      expect(usage).toMatchObject({ completion_tokens: 3, total_tokens: (usage?.prompt_tokens ?? 0) + 3 })
    }),
    check('a chat is the same whole and streamed, and the last chunk has the usage', async () => {
      const greedy = { ...story, model: 'shout', temperature: 0 }
      const whole = await chat.completions.create(greedy)
      const chunks = await collected(
        await chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } }),
      )
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(whole.choices[0]?.message.content)
      // How much of the prompt was known from before differs between the two.
      const { prompt_tokens_details: _, ...usage } = whole.usage ?? {}
      expect(usage).toMatchObject({ completion_tokens: expect.any(Number) })
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage })
    }),
    check("the SDK's own gathering of a stream ends with the same message", async () => {
      const greedy = { ...story, temperature: 0 }
      const whole = await chat.completions.create(greedy)
      const gathered = await chat.completions.stream(greedy).finalChatCompletion()
      expect(gathered.choices[0]?.message.content).toBe(whole.choices[0]?.message.content)
    }),
    check('choices have their indexes, also streamed', async () => {
      const whole = await chat.completions.create({ ...story, n: 2, seed: 7 })
      const chunks = await collected(await chat.completions.create({ ...story, n: 2, seed: 7, stream: true }))
      const texts = [0, 1].map((index) =>
        chunks
          .flatMap(({ choices }) => choices.filter((one) => one.index === index).map(({ delta }) => delta.content ?? ''))
          .join(''),
      )
      expect(texts).toEqual(whole.choices.map(({ message }) => message.content))
    }),
    check('log-probabilities of a chat name the greedy token first', async () => {
      const { choices } = await chat.completions.create({ ...story, temperature: 0, logprobs: true, top_logprobs: 3 })
      for (const { token, logprob, top_logprobs } of choices[0]?.logprobs?.content ?? []) {
        expect(top_logprobs).toHaveLength(3)
        expect(top_logprobs[0]).toMatchObject({ token, logprob })
      }
      expect(choices[0]?.logprobs?.content).toHaveLength(8)
    }),
    check('an answer of a JSON schema parses and fits it', async () => {
      const schema = {
        type: 'object',
        properties: { colour: { enum: ['red', 'green', 'blue'] }, warm: { type: 'boolean' } },
        required: ['colour', 'warm'],
        additionalProperties: false,
      }
      const { choices } = await chat.completions.create({
        ...{ model: base, messages: [{ role: 'user', content: 'Name a colour as JSON.' }], max_tokens: 60, temperature: 0 },
        response_format: { type: 'json_schema', json_schema: { name: 'colour', strict: true, schema } },
      })
      expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({
        ...{ colour: expect.stringMatching(/^(red|green|blue)$/), warm: expect.any(Boolean) },
      })
    }),
    check("a named function is called, and the SDK's gathering of a stream ends with the same call", async () => {
      const [choice] = (await chat.completions.create(asked)).choices
      expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null, tool_calls: { length: 1 } } })
      const called = functionOf(choice?.message.tool_calls?.[0])
      expect([called.name, JSON.parse(called.arguments)]).toEqual([
        ...['weather', { city: expect.stringMatching(/^(Oslo|Rome)$/), celsius: expect.any(Boolean) }],
      ])
      const gathered = await chat.completions.stream(asked).finalChatCompletion()
      const again = functionOf(gathered.choices[0]?.message.tool_calls?.[0])
      expect(again).toMatchObject({ name: called.name, arguments: called.arguments })
    }),
    check('required calls a function, and its result goes back to the model', async () => {
      const now = { type: 'function' as const, function: { name: 'now' } }
      const required = { ...asked, tools: [now], tool_choice: 'required' as const, parallel_tool_calls: false }
      const [choice] = (await chat.completions.create(required)).choices
      const call = choice?.message.tool_calls?.[0]
      if (choice === undefined || call === undefined) throw new Error('no function was called')
      expect(functionOf(call).name).toBe('now')
      const result = { role: 'tool' as const, tool_call_id: call.id, content: 'It is noon.' }
      const answer = await chat.completions.create({
        ...{ ...asked, messages: [...asked.messages, choice.message, result], tool_choice: 'none' as const, max_tokens: 4 },
      })
      expect(answer.choices[0]?.message.content).not.toBe('')
    }),
    check('with auto the model answers as it likes', async () => {
      const [choice] = (await chat.completions.create({ ...asked, tool_choice: 'auto', max_tokens: 12 })).choices
      expect(choice?.message.content === null).toBe(choice?.message.tool_calls !== undefined)
    }),
    check('embeddings are those of transformers and PEFT, decoded by the SDK or as numbers', async () => {
      await Promise.all(
        embeddingCases.map(async (one) => {
          const model = one.adapter ?? base
          const decoded = await embeddings.create({ model, input: one.input })
          const plain = await embeddings.create({ model, input: one.tokens, encoding_format: 'float' })
          expect(distance(decoded.data[0]?.embedding ?? [], one.embedding)).toBeLessThan(EMBEDDING_TOLERANCE)
          // Two batches: sums in another order differ in their last bits.
          expect(distance(plain.data[0]?.embedding ?? [], one.embedding)).toBeLessThan(EMBEDDING_TOLERANCE)
        }),
      )
    }),
    check('embeddings come beside texts that are generated and change none of them', async () => {
      const long = { ...counting, max_tokens: 12 }
      const alone = await completions.create(long)
      const input = Array.from({ length: 3 }, (_, at) => 'a quick brown fox '.repeat(at * 9 + 1))
      const [text, ...embedded] = await Promise.all([
        completions.create(long),
        ...[base, 'shout', 'support-json'].map((model) => embeddings.create({ model, input })),
      ])
      expect(text?.choices[0]?.text).toBe(alone.choices[0]?.text)
      for (const { data } of embedded)
        expect(data.map(({ index, embedding }) => [index, embedding.length])).toEqual(input.map((_, at) => [at, 576]))
    }),
    check('embeddings are called off by an abort, and the server goes on serving', async () => {
      const aborting = new AbortController()
      const many = embeddings.create({ model: base, input: Array(60).fill('so '.repeat(40)) }, { signal: aborting.signal })
      // By then its first texts are being computed.
      await embeddings.create({ model: base, input: 'Hi' })
      aborting.abort()
      await expect(many).rejects.toBeInstanceOf(APIUserAbortError)
      expect((await embeddings.create({ model: base, input: 'Hi' })).data).toHaveLength(1)
    }),
    check('an unknown model raises NotFoundError with code and request id, whole and streamed', async () => {
      for (const stream of [false, true]) {
        const raised = await chat.completions
          .create({ ...story, model: 'nobody/nothing', stream })
          .catch((error: unknown) => error)
        expect(raised).toBeInstanceOf(NotFoundError)
        expect(raised).toMatchObject({ status: 404, code: 'adapter_not_found', param: 'model', requestID: expect.any(String) })
      }
    }),
    check('a bad parameter raises UnprocessableEntityError with the reason', async () => {
      const raised = await completions.create({ ...counting, temperature: -1 }).catch((error: unknown) => error)
      expect(raised).toBeInstanceOf(UnprocessableEntityError)
      expect(raised).toMatchObject({
        ...{ code: 'invalid_parameters', type: 'invalid_request_error' },
        message: expect.stringContaining('`temperature` must be non-negative'),
      })
    }),
    check('too many tokens raise the same for a stream', async () => {
      const streamed = completions.create({ ...counting, max_tokens: 100_000, stream: true })
      await expect(streamed.then(collected)).rejects.toMatchObject({ message: expect.stringContaining('must be <= 2048') })
    }),
    check('a function that is not offered raises UnprocessableEntityError', async () => {
      const choice = { type: 'function' as const, function: { name: 'launch' } }
      const raised = await chat.completions.create({ ...asked, tool_choice: choice }).catch((error: unknown) => error)
      expect(raised).toMatchObject({ status: 422, code: 'tool_error', param: 'tool_choice' })
    }),
    check('an abort ends a whole answer and a stream, and the server goes on serving', async () => {
      const long = { ...counting, max_tokens: 1500, ignore_eos_token: true }
      const aborting = new AbortController()
      const whole = completions.create(long, { signal: aborting.signal })
      aborting.abort()
      await expect(whole).rejects.toBeInstanceOf(APIUserAbortError)
      const stream = await completions.create({ ...long, stream: true })
      for await (const _ of stream) break
      expect(stream.controller.signal.aborted).toBe(true)
      expect((await completions.create({ ...counting, max_tokens: 2 })).choices[0]?.text).toBe(' 5')
    }),
  ]
}
