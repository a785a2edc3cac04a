/** The OpenAI routes in front of a scripted worker. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type GatewayUnderTest, sqlDigest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, type Script, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'
const messages = [{ role: 'user', content: 'Hi' }]
const base = 'smollm2-135m-instruct'

/** Answers these pieces of text, the last one as the end. */
const says =
  (texts: readonly string[], more: Parameters<typeof done>[1] = {}): Script =>
  (run) => {
    run.send(
      accepted,
      ...texts.map((text, at) => token(text, at === texts.length - 1)),
      done(texts.join(''), { generatedTokens: texts.length, ...more }),
    )
    run.end()
  }

/** The data of every event; `[DONE]` as it is. */
const dataOf = (text: string): unknown[] =>
  text
    .split('\n\n')
    .filter((block) => block.startsWith('data: '))
    .map((block) => block.slice('data: '.length))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)))

const contentsOf = (events: readonly unknown[], index = 0): string =>
  events
    .flatMap((event) => (typeof event === 'object' && event !== null && 'choices' in event ? (event.choices as unknown[]) : []))
    .map((choice) => choice as { index: number; delta?: { content?: string }; text?: string })
    .filter((choice) => choice.index === index)
    .map((choice) => choice.delta?.content ?? choice.text ?? '')
    .join('')

describe('a chat completion', () => {
  test('is exactly what OpenAI documents', async () => {
    const { status, json, headers } = await under.post(CHAT, { model: '', messages, max_tokens: 5 }, { 'x-request-id': 'mine' })
    expect(status).toBe(200)
    expect(json).toEqual({
      id: expect.stringMatching(/^chatcmpl-id-\d+$/),
      object: 'chat.completion',
      created: 1767323045,
      model: base,
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Hello world', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, prompt_tokens_details: { cached_tokens: 0 } },
      system_fingerprint: 'quiver-9.9.9',
    })
    expect(headers).toMatchObject({ 'x-request-id': 'mine', 'x-model-id': base, 'x-prompt-tokens': '3' })
    expect(under.worker.requests[0]).toMatchObject({
      prompt: { kind: 'chat', messages, addGenerationPrompt: true },
      sampling: { sample: true, seed: '42' },
      maxNewTokens: 5,
      alternatives: 0,
      prefillDetails: false,
    })
  })

  test('passes on parts, tools, calls and results as templates take them', async () => {
    const call = { id: 'c1', type: 'function', function: { name: 'add', arguments: '{"a":1}' } }
    const tools = [{ type: 'function', function: { name: 'add', parameters: { type: 'object' } } }]
    await under.post(CHAT, {
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'Be ' },
            { type: 'text', text: 'brief.' },
          ],
        },
        { role: 'assistant', content: null, tool_calls: [call], unknown: 1 },
        { role: 'tool', content: '1', tool_call_id: 'c1', name: 'add' },
      ],
      tools,
      tool_choice: 'auto',
    })
    expect(under.worker.requests[0]?.prompt).toEqual({
      kind: 'chat',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'assistant', content: null, tool_calls: [{ ...call, function: { name: 'add', arguments: { a: 1 } } }] },
        { role: 'tool', content: '1', tool_call_id: 'c1', name: 'add' },
      ],
      tools,
      addGenerationPrompt: true,
    })
    await under.post(CHAT, { messages, tools, tool_choice: 'none' })
    expect(under.worker.requests[1]?.prompt).toEqual({ kind: 'chat', messages, addGenerationPrompt: true })
  })

  test('takes every parameter, OpenAI and LoRAX alike, and null for absent', async () => {
    await under.post(CHAT, {
      model: base,
      messages,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 7,
      max_tokens: 3,
      max_completion_tokens: 4,
      stop: 'END',
      presence_penalty: 1,
      frequency_penalty: -1,
      repetition_penalty: 1.5,
      ignore_eos_token: true,
      logit_bias: { '5': -100, '6': 2.5 },
      user: 'somebody',
      n: null,
      stream: null,
      tools: null,
      response_format: null,
      unknown: { a: 1 },
    })
    expect(under.worker.requests[0]).toMatchObject({
      maxNewTokens: 4,
      stop: ['END'],
      ignoreEos: true,
      sampling: {
        sample: true,
        temperature: 0.5,
        topP: 0.9,
        topK: 7,
        presencePenalty: 1,
        frequencyPenalty: -1,
        repetitionPenalty: 1.5,
        logitBias: { '5': -100, '6': 2.5 },
      },
    })
  })

  test('says the form of the answer in the words of the worker, with the schema where OpenAI has it', async () => {
    const schema = { type: 'object', properties: { a: { type: 'string' } } }
    await under.post(CHAT, {
      messages,
      response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } },
    })
    await under.post(CHAT, { messages, response_format: { type: 'json_object' } })
    await under.post(CHAT, { messages, response_format: { type: 'text' } })
    expect(under.worker.requests.map(({ grammar }) => grammar)).toEqual([
      { kind: 'json_schema', schema: JSON.stringify(schema) },
      { kind: 'json_object' },
      undefined,
    ])
  })

  test('is greedy at temperature 0', async () => {
    await under.post(CHAT, { messages, temperature: 0 })
    expect(under.worker.requests[0]?.sampling).toEqual({ sample: false })
  })

  test.each([
    ['18446744073709551615', '18446744073709551615'],
    ['7', '7'],
    ['-1', '18446744073709551615'],
  ])('has the seed %s to the digit', async (seed, expected) => {
    await under.post(CHAT, `{"messages":[{"role":"user","content":"Hi","seed":3}],"seed":${seed},"parameters":{"seed":9}}`)
    expect(under.worker.requests[0]?.sampling.seed).toBe(expected)
  })

  test('n gives independent choices with seeds in a row, and usage that counts the prompt once', async () => {
    let runs = 0
    under.worker.script = (run) => says([`answer ${runs++}`], { generatedTokens: 4 })(run)
    const { json } = await under.post(CHAT, { messages, n: 3, seed: 10 })
    const { choices, usage } = json as { choices: { index: number; message: { content: string } }[]; usage: object }
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2])
    expect(new Set(choices.map(({ message }) => message.content)).size).toBe(3)
    expect(usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 12, total_tokens: 15 })
    expect(under.worker.requests.map(({ sampling }) => sampling.seed).toSorted()).toEqual(['10', '11', '12'])
  })

  test('logprobs have bytes and the likeliest tokens', async () => {
    under.worker.script = (run) => {
      const alternatives = [
        { id: 1, text: 'é', logprob: -0.5, special: false },
        { id: 2, text: '\ufffd', logprob: -2, special: false },
      ]
      run.send(accepted, { ...token('é'), alternatives } as never, { ...token('<end>', true), special: true } as never, done('é'))
      run.end()
    }
    const { json } = await under.post(CHAT, { messages, logprobs: true, top_logprobs: 2 })
    expect(json).toMatchObject({
      choices: [
        {
          message: { content: 'é' },
          logprobs: {
            content: [
              {
                token: 'é',
                logprob: -0.5,
                bytes: [195, 169],
                top_logprobs: [
                  { token: 'é', logprob: -0.5, bytes: [195, 169] },
                  { token: '\ufffd', logprob: -2, bytes: null },
                ],
              },
            ],
            refusal: null,
          },
        },
      ],
    })
    expect(under.worker.requests[0]?.alternatives).toBe(2)
  })

  test.each([
    ['length', 'length'],
    ['eos_token', 'stop'],
    ['stop_sequence', 'stop'],
  ] as const)('calls the end %s %s', async (finishReason, expected) => {
    under.worker.script = says(['a'], { finishReason })
    expect((await under.post(CHAT, { messages })).json).toMatchObject({ choices: [{ finish_reason: expected }] })
  })
})

describe('a stop text', () => {
  const cases: readonly (readonly [string, readonly string[], string | string[], string, string])[] = [
    ['inside a token', ['one', ' STOP two'], 'STOP', 'one ', 'stop'],
    ['across tokens', ['one ST', 'O', 'P', ' rest'], ['STOP'], 'one ', 'stop'],
    ['that only begins stays in', ['one ST', 'ILL'], 'STOP', 'one STILL', 'length'],
    ['that begins at the very end stays in', ['one ST'], 'STOP', 'one ST', 'length'],
    ['the earliest of several', ['abcdef'], ['ef', 'cd', 'x'], 'ab', 'stop'],
    ['that is the whole answer', ['STOP'], 'STOP', '', 'stop'],
  ]
  test.each(cases)('%s is not in the text, whole or streamed', async (_, texts, stop, expected, reason) => {
    under.worker.script = says(texts, { finishReason: 'length' })
    const { json } = await under.post(CHAT, { messages, stop })
    expect(json).toMatchObject({ choices: [{ message: { content: expected }, finish_reason: reason }] })
    const events = dataOf((await under.post(CHAT, { messages, stop, stream: true })).text)
    expect(contentsOf(events)).toBe(expected)
    expect(events.at(-2)).toMatchObject({ choices: [{ delta: {}, finish_reason: reason }] })
    const completion = dataOf((await under.post(COMPLETIONS, { prompt: 'Hi', stop, stream: true })).text)
    expect(contentsOf(completion)).toBe(expected)
  })

  test('may be a special token, whose text is never shown', async () => {
    under.worker.script = (run) => {
      const special = { ...token('<|im_end|>', true), special: true }
      run.send(accepted, token('Hi'), special as never, done('Hi', { finishReason: 'stop_sequence' }))
      run.end()
    }
    const { json } = await under.post(CHAT, { messages, stop: '<|im_end|>', logprobs: true })
    expect(json).toMatchObject({ choices: [{ message: { content: 'Hi' }, logprobs: { content: [{ token: 'Hi' }] } }] })
  })
})

describe('a chat stream', () => {
  test('begins with the role, ends with the reason and [DONE]', async () => {
    const { text, headers } = await under.post(CHAT, { model: 'tgi', messages, stream: true })
    expect(headers['content-type']).toBe('text/event-stream')
    expect(headers['x-model-id']).toBe(base)
    const head = { id: expect.stringMatching(/^chatcmpl-/), object: 'chat.completion.chunk', created: 1767323045, model: 'tgi' }
    const chunk = (delta: object, finish_reason: string | null = null) => ({
      ...head,
      system_fingerprint: 'quiver-9.9.9',
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    })
    expect(dataOf(text)).toEqual([
      chunk({ role: 'assistant', content: '', refusal: null }),
      chunk({ content: 'Hello' }),
      chunk({ content: ' world' }),
      chunk({}, 'stop'),
      '[DONE]',
    ])
  })

  test('has usage in a last chunk without choices where asked for', async () => {
    const { text } = await under.post(CHAT, { messages, stream: true, stream_options: { include_usage: true } })
    const events = dataOf(text)
    expect(events.at(-2)).toMatchObject({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 } })
    for (const event of events.slice(0, -2)) expect(event).toMatchObject({ usage: null })
  })

  test('has in its usage the prompt tokens that were computed before', async () => {
    under.worker.script = says(['Hello'], { promptTokens: 40, cachedTokens: 32 })
    const { text } = await under.post(CHAT, { messages, stream: true, stream_options: { include_usage: true } })
    expect(dataOf(text).at(-2)).toMatchObject({ usage: { prompt_tokens: 40, prompt_tokens_details: { cached_tokens: 32 } } })
  })

  test('takes a cache_salt to the worker, and refuses one that is empty or too long', async () => {
    await under.post(CHAT, { messages, cache_salt: 'one' })
    await under.post(COMPLETIONS, { model: base, prompt: 'Hi', cache_salt: null })
    expect(under.worker.requests.map(({ cacheSalt }) => cacheSalt)).toEqual(['one', undefined])
    for (const cache_salt of ['', 'x'.repeat(257), 7]) {
      const { status, json } = await under.post(CHAT, { messages, cache_salt })
      expect([status, json]).toMatchObject([422, { error: { param: 'cache_salt' } }])
    }
  })

  test('mixes the chunks of several choices, each with its index', async () => {
    const events = dataOf((await under.post(CHAT, { messages, stream: true, n: 3 })).text)
    for (const index of [0, 1, 2]) expect(contentsOf(events, index)).toBe('Hello world')
    expect(events.filter((event) => JSON.stringify(event).includes('"role":"assistant"'))).toHaveLength(3)
    expect(events.filter((event) => event === '[DONE]')).toHaveLength(1)
  })

  test('has the log-probabilities of held back tokens with the text that they became', async () => {
    under.worker.script = says(['a S', 'T', 'ART'])
    const events = dataOf((await under.post(CHAT, { messages, stream: true, stop: 'STOP', logprobs: true })).text)
    const listed = events.flatMap(
      (event) =>
        (event as { choices?: { logprobs: { content: { token: string }[] } | null }[] }).choices?.[0]?.logprobs?.content ?? [],
    )
    expect(listed.map(({ token: text }) => text)).toEqual(['a S', 'T', 'ART'])
    expect(contentsOf(events)).toBe('a START')
  })

  test('that fails after its first token ends with a nested error and no [DONE]', async () => {
    under.worker.script = (run) => {
      run.send(accepted, token('Hello'), { type: 'error', code: 'internal', message: 'internal error' })
      run.end()
    }
    const { status, text } = await under.post(CHAT, { messages, stream: true })
    expect(status).toBe(200)
    const events = dataOf(text)
    expect(events).not.toContain('[DONE]')
    expect(events.at(-1)).toEqual({
      error: { message: 'internal error', type: 'server_error', code: 'internal', param: null },
      error_type: 'internal',
    })
  })

  test('that is refused before its first event has the status of the error', async () => {
    under.worker.script = (run) => {
      run.send({ type: 'error', code: 'invalid_parameters', message: 'too long' })
      run.end()
    }
    const { status, json } = await under.post(CHAT, { messages, stream: true })
    expect([status, json]).toEqual([
      422,
      {
        error: { message: 'too long', type: 'invalid_request_error', code: 'invalid_parameters', param: null },
        error_type: 'validation',
      },
    ])
  })

  test('a client that leaves ends all runs of its request', async () => {
    const left: Promise<void>[] = []
    const begun = Promise.withResolvers<void>()
    under.worker.script = (run) => {
      run.send(accepted, token('Hello'))
      left.push(run.left)
      if (left.length === 2) begun.resolve()
    }
    const client = new AbortController()
    const response = await fetch(under.url + CHAT, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages, stream: true, n: 2 }),
      signal: client.signal,
    })
    await begun.promise
    expect(response.status).toBe(200)
    client.abort()
    await Promise.all(left)
  })
})

describe('a completion', () => {
  test('is exactly what OpenAI documents', async () => {
    const { json } = await under.post(COMPLETIONS, { model: base, prompt: 'Say it: ', max_tokens: 5, echo: true })
    expect(json).toEqual({
      id: expect.stringMatching(/^cmpl-id-\d+$/),
      object: 'text_completion',
      created: 1767323045,
      model: base,
      choices: [{ index: 0, text: 'Say it: Hello world', logprobs: null, finish_reason: 'stop' }],
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, prompt_tokens_details: { cached_tokens: 0 } },
      system_fingerprint: 'quiver-9.9.9',
    })
    expect(under.worker.requests[0]?.prompt).toEqual({ kind: 'text', text: 'Say it: ' })
  })

  test('log-probabilities have places in the text, those of an echoed prompt too', async () => {
    under.worker.script = (run) => {
      const alternatives = [{ id: 9, text: 'x', logprob: -0.1, special: false }]
      const prompt = [
        { id: 1, text: 'a🙂' },
        { id: 2, text: 'b', logprob: -1.5 },
      ]
      run.send(accepted, { type: 'prefill', tokens: prompt }, { ...token('cd', true), alternatives } as never, done('cd'))
      run.end()
    }
    const expected = {
      tokens: ['a🙂', 'b', 'cd'],
      token_logprobs: [null, -1.5, -0.5],
      top_logprobs: [null, null, { x: -0.1, cd: -0.5 }],
      text_offset: [0, 2, 3],
    }
    const body = { prompt: 'a🙂b', echo: true, logprobs: 1 }
    expect((await under.post(COMPLETIONS, body)).json).toMatchObject({ choices: [{ text: 'a🙂bcd', logprobs: expected }] })
    const events = dataOf((await under.post(COMPLETIONS, { ...body, stream: true })).text)
    expect(contentsOf(events)).toBe('a🙂bcd')
    expect(events[1]).toMatchObject({ choices: [{ text: 'cd', logprobs: { text_offset: [3] } }] })
  })

  test('several prompts have their choices in order', async () => {
    under.worker.script = (run) =>
      says([run.request.prompt.kind === 'text' ? run.request.prompt.text.toUpperCase() : ''], { cachedTokens: 1 })(run)
    const { json } = await under.post(COMPLETIONS, { prompt: ['a', 'b'], n: 2 })
    expect((json as { choices: { text: string }[] }).choices.map(({ text }) => text)).toEqual(['A', 'A', 'B', 'B'])
    const usage = { prompt_tokens: 6, completion_tokens: 4, prompt_tokens_details: { cached_tokens: 2 } }
    expect(json).toMatchObject({ usage })
  })

  test('best_of gives the likeliest runs', async () => {
    await under.close()
    under = await startGateway({ clientLimits: { bestOf: 3 } })
    let runs = 0
    under.worker.script = (run) => {
      const logprob = [-3, -1, -2][runs++] ?? 0
      run.send(accepted, { ...token(`${logprob}`, true), logprob } as never, done(`${logprob}`))
      run.end()
    }
    const { json } = await under.post(COMPLETIONS, { prompt: 'a', n: 2, best_of: 3 })
    expect((json as { choices: { text: string }[] }).choices.map(({ text }) => text)).toEqual(['-1', '-2'])
  })
})

describe('model', () => {
  test.each(['', 'dummy', 'tgi', base])('%j is the base model', async (model) => {
    expect((await under.post(CHAT, { model, messages })).status).toBe(200)
    expect(under.worker.requests[0]?.adapter).toEqual({ kind: 'base' })
  })

  test('is an adapter otherwise, which the answer names', async () => {
    const { json, headers } = await under.post(CHAT, { model: 'text-to-sql', messages })
    expect(json).toMatchObject({ model: 'text-to-sql' })
    expect(under.worker.requests[0]?.adapter).toEqual({ kind: 'registered', name: 'text-to-sql', digest: sqlDigest })
    expect(headers).toMatchObject({ 'x-adapter-id': 'text-to-sql', 'x-adapter-digest': sqlDigest })
    await under.post(CHAT, { model: '/adapters/mine', adapter_source: 'local', messages })
    expect(under.worker.requests[1]?.adapter).toEqual({ kind: 'local', path: '/adapters/mine' })
  })

  test.each(['gpt-4', 'no such name', 'a\nb', 'x'.repeat(130)])(
    '%j that is not there is 404, also for a stream',
    async (model) => {
      for (const stream of [false, true]) {
        const { status, json } = await under.post(CHAT, { model, messages, stream })
        expect(status).toBe(404)
        expect(json).toEqual({
          error: {
            message: expect.stringContaining('does not exist'),
            type: 'invalid_request_error',
            code: 'adapter_not_found',
            param: 'model',
          },
          error_type: 'generation',
        })
      }
    },
  )

  test('GET /v1/models lists the base model and every adapter, and one by its id', async () => {
    const list = await (await fetch(`${under.url}/v1/models`)).json()
    const adapter = {
      id: 'text-to-sql',
      object: 'model',
      created: 1767225600,
      owned_by: 'quiver',
      root: `text-to-sql@sha256:${sqlDigest}`,
      parent: base,
    }
    expect(list).toEqual({
      object: 'list',
      data: [{ id: base, object: 'model', created: 1767323045, owned_by: 'quiver', root: base, parent: null }, adapter],
    })
    expect(await (await fetch(`${under.url}/v1/models/text-to-sql`)).json()).toEqual(adapter)
    expect((await fetch(`${under.url}/v1/models/a/b`)).status).toBe(404)
  })
})

describe('what is refused', () => {
  const sum = '`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 9 `inputs` tokens and 5000 `max_new_tokens`'
  test.each([
    [CHAT, { messages }, 'messages'],
    [COMPLETIONS, { prompt: 'a' }, 'prompt'],
  ])(
    'on %s in the words of OpenAI, though the worker says it in those of LoRAX, whole and streamed',
    async (path, body, field) => {
      under.worker.script = (run) => {
        run.send({ type: 'error', code: 'invalid_parameters', message: sum })
        run.end()
      }
      const message = sum.replaceAll('inputs', field).replaceAll('max_new_tokens', 'max_tokens')
      for (const stream of [false, true]) {
        const { json } = await under.post(path, { ...body, max_tokens: 5000, stream })
        expect(json).toMatchObject({ error: { message, param: field } })
      }
    },
  )

  const chat = (more: object) => ({ messages, ...more })
  const cases: readonly (readonly [string, object, string, string])[] = [
    [CHAT, {}, '`messages` must be a list of messages', 'messages'],
    [CHAT, { messages: [] }, '`messages` must not be empty', 'messages'],
    [
      CHAT,
      chat({ messages: [{ role: 'user', content: 5 }] }),
      '`messages[0].content` must be a string or a list of parts',
      'messages[0].content',
    ],
    [
      CHAT,
      chat({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] }),
      '`messages[0].content[0]` has the type "image_url": this model reads only text',
      'messages[0].content[0]',
    ],
    [CHAT, chat({ n: 17 }), '`n` must be at most 16', 'n'],
    [CHAT, chat({ max_tokens: 0 }), '`max_tokens` must be strictly positive', 'max_tokens'],
    [CHAT, chat({ temperature: -1 }), '`temperature` must be non-negative', 'temperature'],
    [CHAT, chat({ top_logprobs: 2 }), '`top_logprobs` needs `logprobs` to be true', 'top_logprobs'],
    [CHAT, chat({ logit_bias: { '1': 101 } }), '`logit_bias.1` must be from -100 to 100', 'logit_bias.1'],
    [
      CHAT,
      chat({ logit_bias: { '49152': 1 } }),
      '`logit_bias` names token 49152, but the model has only 49152 tokens',
      'logit_bias',
    ],
    [CHAT, chat({ tools: [{}] }), '`tools[0].type` must be "function"', 'tools[0].type'],
    [CHAT, chat({ seed: 1.5 }), '`seed` must be a whole number from 0 to 18446744073709551615', 'seed'],
    [COMPLETIONS, { prompt: '' }, '`prompt` must not be empty', 'prompt'],
    [COMPLETIONS, { prompt: [1, 2] }, '`prompt` must be a string or a list of strings, none of them empty', 'prompt'],
    [COMPLETIONS, { prompt: 'a', suffix: 'b' }, '`suffix` is not supported by this server', 'suffix'],
    [COMPLETIONS, { prompt: 'a', n: 3, best_of: 2 }, '`best_of` must be at least `n`, which is 3', 'best_of'],
    [COMPLETIONS, { prompt: 'a', logprobs: 6 }, '`logprobs` must be at most 5', 'logprobs'],
  ]
  test.each(cases)('%s %j', async (path, body, message, param) => {
    const { status, json } = await under.post(path, body)
    expect(json).toEqual({
      error: { message, type: 'invalid_request_error', code: 'invalid_parameters', param },
      error_type: 'validation',
    })
    expect(status).toBe(422)
    expect(under.worker.requests).toEqual([])
  })

  test.each([
    ['POST', CHAT, '{', 400, 'invalid_request'],
    ['POST', '/v1/nothing', '{}', 404, 'not_found'],
    ['GET', CHAT, undefined, 405, 'method_not_allowed'],
  ])('%s %s with %s is %i in the nested form', async (method, path, body, status, code) => {
    const headers = { 'content-type': 'application/json', 'x-request-id': 'mine' }
    const response = await fetch(under.url + path, { method, headers, ...(body === undefined ? {} : { body }) })
    expect([response.status, response.headers.get('x-request-id')]).toEqual([status, 'mine'])
    expect(await response.json()).toMatchObject({ error: { code }, error_type: code })
  })

  test('a full house is 429 with Retry-After, and its places come back', async () => {
    under.worker.script = (run) => run.send(accepted)
    const client = new AbortController()
    const waiting = Array.from({ length: 4 }, () =>
      fetch(under.url + CHAT, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ messages, n: 2 }),
        signal: client.signal,
      }).catch(() => undefined),
    )
    while (under.worker.requests.length < 8) await new Promise(setImmediate)
    const { status, headers, json } = await under.post(CHAT, { messages })
    expect([status, headers['retry-after']]).toEqual([429, '1'])
    expect(json).toMatchObject({ error: { type: 'rate_limit_error', code: 'overloaded' }, error_type: 'overloaded' })
    client.abort()
    await Promise.all(waiting)
    while ((await under.worker.connectionCount()) > 0) await new Promise(setImmediate)
    under.worker.script = says(['back'])
    expect((await under.post(CHAT, { messages, n: 8 })).status).toBe(200)
  })
})
