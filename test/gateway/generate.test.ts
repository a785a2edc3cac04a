import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, sqlDigest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, helloWorld, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

const helloTokens = [
  { id: 5, text: 'Hello', logprob: -0.5, special: false, skipped: false },
  { id: 6, text: ' world', logprob: -0.5, special: false, skipped: false },
]

describe('whole answers', () => {
  test('POST / answers a list of one, /generate the object itself', async () => {
    expect((await under.post('/', { inputs: 'Hi' })).json).toEqual([{ generated_text: 'Hello world' }])
    expect((await under.post('/invocations', { inputs: 'Hi' })).json).toEqual([{ generated_text: 'Hello world' }])
    expect((await under.post('/generate', { inputs: 'Hi', stream: true })).json).toEqual({ generated_text: 'Hello world' })
  })

  test('details have every field that released clients require', async () => {
    const { json } = await under.post('/generate', { inputs: 'Hi', parameters: { details: true } })
    expect(json).toEqual({
      generated_text: 'Hello world',
      details: {
        finish_reason: 'eos_token',
        prompt_tokens: 3,
        generated_tokens: 2,
        skipped_tokens: 0,
        seed: null,
        prefill: [],
        tokens: helloTokens,
      },
    })
  })

  test('decoder_input_details implies details and brings the prompt, first without a log-probability', async () => {
    under.worker.script = (run) => {
      const tokens = [
        { id: 1, text: 'a' },
        { id: 2, text: 'b', logprob: -1.5 },
      ]
      run.send(accepted, { type: 'prefill', tokens }, token('Hello'), token(' world', true), done('Hello world'))
      run.end()
    }
    const { json } = await under.post('/generate', { inputs: 'ab', parameters: { decoder_input_details: true } })
    expect(json).toMatchObject({
      details: {
        prefill: [
          { id: 1, text: 'a', logprob: null },
          { id: 2, text: 'b', logprob: -1.5 },
        ],
      },
    })
    expect(under.worker.requests[0]?.prefillDetails).toBe(true)
  })

  test('alternatives come with each token', async () => {
    const alternatives = [{ id: 7, text: 'Bye', logprob: -2 }]
    under.worker.script = (run) => {
      const marked = alternatives.map((alternative) => ({ ...alternative, special: false }))
      run.send(accepted, { ...token('Hello', true), alternatives: marked } as never, done('Hello'))
      run.end()
    }
    const { json } = await under.post('/generate', { inputs: 'Hi', parameters: { details: true, return_k_alternatives: 1 } })
    expect(json).toMatchObject({ details: { tokens: [{ text: 'Hello', alternative_tokens: alternatives }] } })
    expect(under.worker.requests[0]?.alternatives).toBe(1)
  })

  test('return_full_text puts the prompt before the text', async () => {
    const { json } = await under.post('/generate', { inputs: 'Hi. ', parameters: { return_full_text: true } })
    expect(json).toEqual({ generated_text: 'Hi. Hello world' })
  })

  test('the headers carry counts, times, model and adapter', async () => {
    const { headers } = await under.post(
      '/generate',
      { inputs: 'Hi 👋', parameters: { adapter_id: 'text-to-sql' } },
      { 'x-request-id': 'my-id' },
    )
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'x-request-id': 'my-id',
      'x-compute-type': 'cpu+optimized',
      'x-compute-characters': '4',
      'x-model-id': 'smollm2-135m-instruct',
      'x-adapter-id': 'text-to-sql',
      'x-adapter-source': 'store',
      'x-adapter-digest': sqlDigest,
      'x-prompt-tokens': '3',
      'x-generated-tokens': '2',
      'x-skipped-tokens': '0',
      'x-total-tokens': '5',
      'x-queue-time': '1',
      'x-inference-time': '20',
      'x-time-per-token': '10',
      'x-time-per-output-token': '10',
    })
    for (const name of ['x-compute-time', 'x-total-time', 'x-validation-time', 'x-time-to-first-token']) {
      expect(headers[name]).toMatch(/^[0-9]+$/)
    }
  })

  test('a local adapter is passed on as a path, and its digest comes from the worker', async () => {
    under.worker.script = (run) => {
      run.send({ ...accepted, adapterDigest: 'c'.repeat(64) } as never, token('Hello', true), done('Hello'))
      run.end()
    }
    const parameters = { adapter_id: '/adapters/mine', adapter_source: 'LOCAL' }
    for (const path of ['/generate', '/generate_stream']) {
      const { headers } = await under.post(path, { inputs: 'Hi', parameters })
      expect(headers).toMatchObject({
        'x-adapter-id': '/adapters/mine',
        'x-adapter-source': 'local',
        'x-adapter-digest': 'c'.repeat(64),
      })
    }
    expect(under.worker.requests[0]?.adapter).toEqual({ kind: 'local', path: '/adapters/mine' })
  })

  test.each<[Record<string, unknown>, object]>([
    [
      { adapter_id: 'acme/sql', adapter_source: 'HUB' },
      { kind: 'hub', id: 'acme/sql', revision: 'main' },
    ],
    [
      { adapter_id: 'acme/sql@v2', adapter_source: 'hub', api_token: 'hf_secret' },
      { kind: 'hub', id: 'acme/sql', revision: 'v2', token: 'hf_secret' },
    ],
    [
      { adapter_id: 's3://team-a/sql', adapter_source: 's3' },
      { kind: 's3', uri: 's3://team-a/sql' },
    ],
  ])('the reference of %j is passed on, and its digest comes from the worker', async (parameters, ref) => {
    under.worker.script = (run) => {
      run.send({ ...accepted, adapterDigest: 'c'.repeat(64) } as never, token('Hello', true), done('Hello'))
      run.end()
    }
    for (const path of ['/generate', '/generate_stream']) {
      const { headers } = await under.post(path, { inputs: 'Hi', parameters })
      expect(headers).toMatchObject({
        'x-adapter-id': parameters['adapter_id'],
        'x-adapter-source': String(parameters['adapter_source']).toLowerCase(),
        'x-adapter-digest': 'c'.repeat(64),
      })
    }
    expect(under.worker.requests[0]?.adapter).toEqual(ref)
    expect(JSON.stringify(under.log)).not.toContain('hf_secret')
  })

  test('the hub gets the token of the body, else a bearer token that is plainly its own, and never a key of this server', async () => {
    const parameters = { adapter_id: 'acme/sql', adapter_source: 'hub' }
    const said = async (headers: Record<string, string>, api_token?: string) => {
      await under.post('/generate', { inputs: 'Hi', parameters: { ...parameters, api_token } }, headers)
      const ref = under.worker.requests.at(-1)?.adapter
      return ref?.kind === 'hub' ? ref.token : 'no hub'
    }
    expect(await said({ authorization: 'Bearer hf_header' })).toBe('hf_header')
    expect(await said({ authorization: 'Bearer hf_header' }, 'hf_body')).toBe('hf_body')
    expect(await said({ authorization: 'Bearer quiver_key' })).toBeUndefined()
    expect(await said({ 'x-api-key': 'hf_header' })).toBeUndefined()
    expect(await said({}, '')).toBeUndefined()
  })

  test('an empty or null adapter id means the base model', async () => {
    for (const adapter_id of ['', null]) {
      const { headers } = await under.post('/generate', { inputs: 'Hi', parameters: { adapter_id, adapter_source: 'hub' } })
      expect(headers['x-adapter-id']).toBeUndefined()
    }
    expect(under.worker.requests.map(({ adapter }) => adapter.kind)).toEqual(['base', 'base'])
  })
})

describe('what reaches the worker', () => {
  test('every null of a released client means absent', async () => {
    const parameters = Object.fromEntries(
      [
        'adapter_id adapter_source merged_adapters api_token best_of temperature repetition_penalty frequency_penalty',
        'presence_penalty top_k top_p typical_p do_sample max_new_tokens ignore_eos_token return_full_text stop truncate',
        'watermark details decoder_input_details seed return_k_alternatives top_n_tokens apply_chat_template',
        'response_format grammar',
      ].flatMap((line) => line.split(' ').map((name) => [name, null])),
    )
    expect((await under.post('/', { inputs: 'Hi', parameters, stream: null })).status).toBe(200)
    expect((await under.post('/', { inputs: 'Hi', parameters: null })).status).toBe(200)
    const { requestId, deadlineMs, ...rest } = under.worker.requests[0] ?? {}
    expect(requestId).toMatch(/^id-0\.id-1\.1$/)
    expect(deadlineMs).toBeGreaterThan(599_000)
    expect(rest).toEqual({
      tenant: 'default',
      adapter: { kind: 'base' },
      base: 'smollm2-135m-instruct',
      prompt: { kind: 'text', text: 'Hi' },
      sampling: { sample: false },
      stop: [],
      ignoreEos: false,
      prefillDetails: false,
      alternatives: 0,
    })
  })

  test('H17: parameters are said in the worker words, unknown fields are dropped', async () => {
    await under.post('/generate', {
      inputs: 'Hi\ud800',
      unknown: [1],
      parameters: {
        max_new_tokens: 7,
        temperature: 0.5,
        top_k: 3,
        top_p: 1,
        typical_p: 0.9,
        repetition_penalty: 1.2,
        frequency_penalty: -2,
        presence_penalty: 2,
        stop: 'END',
        truncate: 2047,
        ignore_eos_token: true,
        seed: 5,
        logit_bias: {},
      },
    })
    expect(under.worker.requests[0]).toMatchObject({
      prompt: { kind: 'text', text: 'Hi\ufffd' },
      maxNewTokens: 7,
      stop: ['END'],
      truncate: 2047,
      ignoreEos: true,
      sampling: {
        sample: true,
        temperature: 0.5,
        topK: 3,
        topP: 1,
        typicalP: 0.9,
        repetitionPenalty: 1.2,
        frequencyPenalty: -2,
        presencePenalty: 2,
        seed: '5',
      },
    })
  })

  test.each([
    [{ do_sample: true }, true],
    [{ temperature: 0.7 }, true],
    [{ temperature: 1 }, false],
    [{ top_k: 5 }, true],
    [{ top_p: 0.9 }, true],
    [{ top_p: 1 }, false],
    [{ typical_p: 0.9 }, true],
    [{ seed: 3 }, false],
    [{ repetition_penalty: 1.3 }, false],
    [{ do_sample: true, temperature: 0 }, false],
    [{ top_k: 5, temperature: 0 }, false],
  ])('%j samples: %s', async (parameters, sample) => {
    const { json } = await under.post('/generate', { inputs: 'Hi', parameters: { ...parameters, details: true } })
    expect(under.worker.requests[0]?.sampling.sample).toBe(sample)
    const seed = sample ? ('seed' in parameters ? parameters.seed : 42) : null
    expect(json).toMatchObject({ details: { seed } })
  })

  test.each(['18446744073709551615', '9007199254740993', '0', '42'])(
    'seed %s goes through digit by digit, both ways',
    async (seed) => {
      const body = `{"inputs":"\\"seed\\": 7","parameters":{"seed":1,"s\\u0065ed" : ${seed} ,"top_k":5,"details":true,"x":{"seed":9}},"z":{"parameters":{"seed":3}}}`
      const { text } = await under.post('/generate', body)
      expect(under.worker.requests[0]?.sampling.seed).toBe(seed)
      expect(text).toContain(`"seed":${seed},`)
      const events = await under.post('/generate_stream', body)
      expect(events.text).toContain(`"seed":${seed}}`)
    },
  )
})

describe('streams', () => {
  test('are byte for byte what LoRAX sends, the whole text with the last token', async () => {
    const { text, headers } = await under.post('/generate_stream', { inputs: 'Hi', parameters: { details: true, top_k: 2 } })
    expect(text).toBe(
      'data:{"token":{"id":5,"text":"Hello","logprob":-0.5,"special":false,"skipped":false},"generated_text":null,"details":null}\n\n' +
        'data:{"token":{"id":6,"text":" world","logprob":-0.5,"special":false,"skipped":false},"generated_text":"Hello world",' +
        '"details":{"finish_reason":"eos_token","prompt_tokens":3,"generated_tokens":2,"seed":42}}\n\n',
    )
    expect(headers).toMatchObject({ 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
  })

  test('come on POST / when the body asks, without details when it does not', async () => {
    const { text } = await under.post('/', { inputs: 'Hi', stream: true, parameters: { adapter_id: 'text-to-sql' } })
    expect(eventsOf(text)).toMatchObject([
      { generated_text: null, details: null },
      { generated_text: 'Hello world', details: null },
    ])
  })

  test('reassemble events that arrive cut in the middle of a character', async () => {
    under.worker.script = (run) => {
      const bytes = Buffer.from(
        `${JSON.stringify(accepted)}\n${JSON.stringify(token('🏹', true))}\n${JSON.stringify(done('🏹'))}\n`,
      )
      const cut = bytes.indexOf(Buffer.from('🏹')) + 2
      run.sendRaw(bytes.subarray(0, cut))
      setImmediate(() => {
        run.sendRaw(bytes.subarray(cut))
        run.end()
      })
    }
    const { text } = await under.post('/generate_stream', { inputs: 'Hi' })
    expect(eventsOf(text)).toMatchObject([{ token: { text: '🏹' }, generated_text: '🏹' }])
  })

  test('the connection to the worker is used again after a run was read to its end', async () => {
    for (let request = 0; request < 5; request++) await under.post('/generate', { inputs: 'Hi' })
    expect(await under.worker.connectionCount()).toBe(1)
  })

  test('H19: the same request id twice at once is answered twice', async () => {
    under.worker.script = (run) => setImmediate(() => helloWorld(run))
    const answers = await Promise.all([1, 2].map(() => under.post('/generate', { inputs: 'Hi' }, { 'x-request-id': 'twice' })))
    expect(answers.map(({ status, headers }) => [status, headers['x-request-id']])).toEqual([
      [200, 'twice'],
      [200, 'twice'],
    ])
    expect(new Set(under.worker.requests.map(({ requestId }) => requestId)).size).toBe(2)
  })
})
