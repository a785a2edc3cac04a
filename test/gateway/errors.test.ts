import { type ErrorCode, errorCodes, limits } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, helloWorld, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeAll(async () => {
  under = await startGateway()
})
afterAll(() => under.close())

const body = (parameters: unknown, inputs: unknown = 'Hi') => ({ inputs, parameters })
const validation = (text: string) => ({ error: `Input validation error: ${text}`, error_type: 'validation' })

/** One row for each check, in the order in which they are made. */
const checks: readonly [name: string, parameters: Record<string, unknown>, text: string][] = [
  ['best_of', { best_of: 3 }, '`best_of` must be > 0 and <= 2. Given: 3'],
  [
    'adapter and merge',
    { adapter_id: 'text-to-sql', merged_adapters: { ids: ['a'] } },
    'at most one of `adapter_id` or `adapters` may be provided',
  ],
  [
    'merged_adapters',
    { merged_adapters: { ids: ['a'] }, adapter_id: null },
    'number of adapter IDs must match number of adapter weights',
  ],
  [
    'header-unsafe adapter_id',
    { adapter_id: 'a\nb', merged_adapters: null },
    '`adapter_id` must have only printable ASCII characters, without a space at either end, and at most 4096 of them',
  ],
  [
    'adapter_id',
    { adapter_id: '../x' },
    'adapter name "../x" is not valid: use letters, digits, ".", "_", "-" and "/", starting with a letter or digit, at most 128 characters',
  ],
  ['temperature', { temperature: -0.1, adapter_id: null }, '`temperature` must be non-negative'],
  ['repetition_penalty', { repetition_penalty: 0, temperature: null }, '`repetition_penalty` must be strictly positive'],
  ['frequency_penalty', { frequency_penalty: 2.1, repetition_penalty: 1 }, '`frequency_penalty` must be >= -2.0 and <= 2.0'],
  ['presence_penalty', { presence_penalty: -2.1, frequency_penalty: 2 }, '`presence_penalty` must be >= -2.0 and <= 2.0'],
  ['top_p', { top_p: 0, presence_penalty: -2 }, '`top_p` must be > 0.0 and < 1.0'],
  ['top_p', { top_p: 1.1 }, '`top_p` must be > 0.0 and < 1.0'],
  ['typical_p', { typical_p: 1, top_p: 1 }, '`typical_p` must be > 0.0 and < 1.0'],
  ['top_k', { top_k: 0, typical_p: 0.5 }, '`top_k` must be strictly positive'],
  ['top_k', { top_k: -1 }, '`top_k` must be strictly positive'],
  ['return_k_alternatives', { return_k_alternatives: 0, top_k: 1 }, '`return_k_alternatives` must be strictly positive'],
  ['return_k_alternatives', { return_k_alternatives: 33 }, '`return_k_alternatives` must be <= 32. Given: 33'],
  ['top_n_tokens', { top_n_tokens: 33, return_k_alternatives: null }, '`top_n_tokens` must be >= 0 and <= 32. Given: 33'],
  ['max_new_tokens', { max_new_tokens: 0, top_n_tokens: 0 }, '`max_new_tokens` must be strictly positive'],
  ['stop', { stop: Array(17).fill('x'), max_new_tokens: 1 }, '`stop` supports up to 16 stop sequences. Given: 17'],
  ['stop', { stop: [''] }, '`stop` sequences must have 1 to 256 characters'],
  [
    'response_format',
    { response_format: { type: 'xml' }, watermark: true },
    'the type of `response_format` must be text, json_object or json_schema. Given: "xml"',
  ],
  [
    'grammar',
    { grammar: { type: 'json', value: {} }, response_format: { type: 'json_object' } },
    'at most one of `response_format` or `grammar` may be provided',
  ],
  [
    'type of grammar',
    { grammar: { type: 'ebnf', value: 'x' }, response_format: null },
    'the type of `grammar` must be json, json_schema or regex. Given: "ebnf"',
  ],
  [
    'regex',
    { grammar: { type: 'regex', value: '' }, response_format: null },
    'the regex of `grammar` must be a string of 1 to 4096 characters',
  ],
  ['inputs', { grammar: null }, '`inputs` cannot be empty'],
  ['truncate', { truncate: 0 }, '`truncate` must be strictly positive and less than 2047. Given: 0'],
  ['truncate', { truncate: 2048 }, '`truncate` must be strictly positive and less than 2047. Given: 2048'],
]

describe('H10, H11, H16: parameter checks', () => {
  test.each(checks)('%s %j is 422 with its text', async (name, parameters, text) => {
    const answer = await under.post('/generate', body(parameters, name === 'inputs' ? '' : 'Hi'))
    expect([answer.status, answer.json]).toEqual([422, validation(text)])
  })

  test('are made in LoRAX order: a request that breaks all rules meets them one by one', async () => {
    const broken: Record<string, unknown> = {}
    for (const [, parameters] of checks.toReversed()) Object.assign(broken, parameters)
    const met: string[] = []
    // Each answer's rule is repaired by the next row, which sets the earlier field right.
    for (const [index, [name, , text]] of checks.entries()) {
      if (checks.slice(0, index).some(([earlier]) => earlier === name)) continue
      const answer = await under.post('/generate', body({ ...broken }, met.includes('inputs') ? 'Hi' : ''))
      expect(answer.json, name).toEqual(validation(text))
      met.push(name)
      Object.assign(broken, repaired[name])
    }
    expect(met.length).toBe(new Set(checks.map(([name]) => name)).size)
  })

  test.each(checks.filter(([name]) => name !== 'best_of' && name !== 'inputs'))(
    '%s: %j in a stream is 200 and one event',
    async (_, parameters, text) => {
      const answer = await under.post('/generate_stream', body(parameters))
      expect([answer.status, eventsOf(answer.text)]).toEqual([200, [validation(text)]])
    },
  )

  test.each([
    [{ best_of: 2 }, '`best_of` != 1 is not supported when streaming tokens'],
    [{ best_of: 0 }, '`best_of` != 1 is not supported when streaming tokens'],
    [{ decoder_input_details: true }, '`decoder_input_details` == true is not supported when streaming tokens'],
  ])('%j is refused in a stream', async (parameters, text) => {
    const answer = await under.post('/', { ...body(parameters), stream: true })
    expect([answer.status, eventsOf(answer.text)]).toEqual([200, [validation(text)]])
  })

  test('best_of 0 passes as 1 outside a stream', async () => {
    expect((await under.post('/generate', body({ best_of: 0 }))).status).toBe(200)
  })
})

/** What makes a broken field right again, so that the next check is met. */
const repaired: Record<string, Record<string, unknown>> = {
  best_of: { best_of: 1 },
  'adapter and merge': { adapter_id: '' },
  merged_adapters: { merged_adapters: null, adapter_id: 'a\nb' },
  'header-unsafe adapter_id': { adapter_id: '../x' },
  adapter_id: { adapter_id: null, temperature: -1 },
  temperature: { temperature: 1, repetition_penalty: 0 },
  repetition_penalty: { repetition_penalty: 1, frequency_penalty: 3 },
  frequency_penalty: { frequency_penalty: 0, presence_penalty: -3 },
  presence_penalty: { presence_penalty: 0, top_p: 0 },
  top_p: { top_p: 0.5, typical_p: 0 },
  typical_p: { typical_p: 0.5, top_k: 0 },
  top_k: { top_k: 1, return_k_alternatives: 0 },
  return_k_alternatives: { return_k_alternatives: 1, top_n_tokens: 33 },
  top_n_tokens: { top_n_tokens: 1, max_new_tokens: 0 },
  max_new_tokens: { max_new_tokens: 1, stop: Array(17).fill('x') },
  stop: { stop: null, response_format: { type: 'xml' } },
  response_format: { response_format: { type: 'json_object' }, grammar: { type: 'json', value: {} } },
  grammar: { response_format: null, grammar: { type: 'ebnf', value: 'x' } },
  'type of grammar': { grammar: { type: 'regex', value: '' } },
  regex: { grammar: null },
  inputs: { truncate: 0 },
}

describe('types', () => {
  const wrong: readonly [field: string, values: readonly string[]][] = [
    ['adapter_id', ['1', '{}']],
    ['adapter_source', ['1']],
    [
      'merged_adapters',
      ['[]', '"a"', '{}', '{"ids":"a"}', '{"ids":[1]}', '{"ids":["a"],"weights":[1e400]}', '{"ids":[],"density":"1"}'],
    ],
    ['best_of', ['-1', '1.5', '"1"', '9007199254740993', '1e400']],
    ['temperature', ['"NaN"', '1e400', 'true']],
    ['repetition_penalty', ['"1"', '1e400']],
    ['frequency_penalty', ['[]']],
    ['presence_penalty', ['{}']],
    ['top_k', ['1.5', '"3"', '2147483648', '1e400']],
    ['top_p', ['"0.5"', '-1e400']],
    ['typical_p', ['[0.5]']],
    ['do_sample', ['1', '"true"']],
    ['max_new_tokens', ['-1', '0.5', '"5"', '9007199254740993', '1e400']],
    ['ignore_eos_token', ['0']],
    ['return_full_text', ['"no"']],
    ['stop', ['1', '[1]', '[null]', '{}']],
    ['truncate', ['-1', '1.5', '9007199254740993']],
    ['watermark', ['"x"']],
    ['details', ['1']],
    ['decoder_input_details', ['"yes"']],
    ['seed', ['-1', '1.5', '"1"', '18446744073709551616', '1e30', '1e400', '1e19']],
    ['return_k_alternatives', ['1.5', '2147483648']],
    ['top_n_tokens', ['-1', '2.5']],
    ['apply_chat_template', ['1']],
    ['response_format', ['"json"', '[]', '{}', '{"type":"json_object","schema":1}']],
    ['grammar', ['1', '{}', '{"type":"json"}', '{"type":"regex","value":[]}']],
  ]
  test.each(wrong)('H09: a wrong %s is 422 and named, in a stream too', async (field, values) => {
    for (const value of values) {
      for (const path of ['/generate', '/generate_stream']) {
        const answer = await under.post(path, `{"inputs":"Hi","parameters":{"${field}":${value}}}`)
        expect(answer.status, value).toBe(422)
        expect(answer.json, value).toMatchObject({ error_type: 'validation' })
        expect(answer.text, value).toMatch(new RegExp(`"Input validation error: \`(${field}|type)\` must`))
      }
    }
  })

  test.each([
    ['{}', '`inputs` must be a string'],
    ['{"inputs":null}', '`inputs` must be a string'],
    ['{"inputs":["a"]}', '`inputs` must be a string'],
    ['{"inputs":"a","parameters":[]}', '`parameters` must be an object'],
    ['{"inputs":"a","stream":"yes"}', '`stream` must be true or false'],
    ['[]', 'the body must be a JSON object'],
    ['"text"', 'the body must be a JSON object'],
    ['null', 'the body must be a JSON object'],
  ])('%s is 422', async (text, message) => {
    const answer = await under.post('/', text)
    expect([answer.status, answer.json]).toEqual([422, validation(message)])
  })
})

describe('adapters', () => {
  const failure = (text: string) => ({
    error: `Request failed during generation: Server error: ${text}`,
    error_type: 'generation',
  })
  const cases: readonly [Record<string, unknown>, string][] = [
    [{ adapter_id: 'nobody' }, "Adapter 'nobody' is not known here. There are: text-to-sql."],
    [{ adapter_id: 'text-to-sql', adapter_source: 'ftp' }, "Invalid source 'ftp' when downloading adapter 'text-to-sql'"],
    [
      { adapter_id: 'org/a', adapter_source: 'pbase' },
      "Source 'pbase' of adapter 'org/a' is not offered by this server. Name an adapter of its catalogue without " +
        "adapter_source, or say 'hub', 's3' or 'local'",
    ],
  ]
  test.each(cases)('H16: %j is 424 generation, in a stream one event', async (parameters, text) => {
    const answer = await under.post('/', body(parameters))
    expect([answer.status, answer.json]).toEqual([424, failure(text)])
    const stream = await under.post('/', { ...body(parameters), stream: true })
    expect([stream.status, eventsOf(stream.text)]).toEqual([200, [failure(text)]])
  })

  test.each([
    '../x',
    '%2e%2e',
    'a/../../b',
    'a\\b',
    '/etc/passwd',
    'x'.repeat(300),
    'a\u202eb',
    'a\0',
    'a#b',
    'a?b',
    ' a',
    'a ',
    'é',
  ])('H15: %j is refused before anything is asked', async (adapter_id) => {
    const before = under.worker.requests.length
    const answer = await under.post('/', body({ adapter_id }))
    expect(answer.status).toBe(422)
    expect(answer.json).toMatchObject({ error_type: 'validation' })
    expect(under.worker.requests.length).toBe(before)
  })
})

describe('adapters of the hub and of buckets', () => {
  test.each([
    ...['a', 'a/b/c', '../x', 'a/..', 'https://hub/a/b', 'a/b@', 'a/b@../x', 'a/b?x=1'].map((id) => ['hub', id] as const),
    ...['https://bucket/x', 's3://b', 's3://bucket/../x', 'bucket//x', 'bucket/%2e%2e', 'Bucket/x', 'buck..et/x'].map(
      (id) => ['s3', id] as const,
    ),
  ])('H15: %s %j is refused before anything is asked', async (adapter_source, adapter_id) => {
    const before = under.worker.requests.length
    for (const parameters of [
      { adapter_id, adapter_source },
      { adapter_source, merged_adapters: { ids: [adapter_id], weights: [1] } },
    ]) {
      const answer = await under.post('/', body(parameters))
      expect([answer.status, answer.json]).toMatchObject([422, { error_type: 'validation' }])
    }
    expect(under.worker.requests.length).toBe(before)
  })

  test.each(['with space', 'line\nbreak', 'é', 'x'.repeat(513)])(
    'a token that could not stand in a header is 422 without being repeated: %j',
    async (api_token) => {
      const answer = await under.post('/', body({ adapter_id: 'a/b', adapter_source: 'hub', api_token }))
      expect([answer.status, answer.json]).toMatchObject([422, { error_type: 'validation' }])
      expect(answer.text).not.toContain(JSON.stringify(api_token).slice(1, -1))
    },
  )
})

describe('failures of a run', () => {
  const rows: Record<ErrorCode, [status: number, type: string, text: RegExp]> = {
    invalid_request: [422, 'validation', /^Input validation error: why$/],
    unauthenticated: [401, 'unauthenticated', /^why$/],
    forbidden: [424, 'generation', /^Request failed during generation: Server error: why$/],
    missing_right: [403, 'missing_right', /^why$/],
    adapter_not_found: [424, 'generation', /^Request failed during generation: Server error: why$/],
    adapter_invalid: [424, 'generation', /^Request failed during generation: Server error: why$/],
    adapter_unavailable: [424, 'generation', /^Request failed during generation: Server error: why$/],
    source_unavailable: [424, 'generation', /^Request failed during generation: Server error: why$/],
    not_found: [404, 'not_found', /^why$/],
    method_not_allowed: [405, 'method_not_allowed', /^why$/],
    // Of a run these are the adapter's: changed while it was read, or larger than any that fits.
    conflict: [424, 'generation', /^Request failed during generation: Server error: why$/],
    too_large: [424, 'generation', /^Request failed during generation: Server error: why$/],
    unsupported_media_type: [415, 'unsupported_media_type', /^why$/],
    invalid_parameters: [422, 'validation', /^Input validation error: why$/],
    tool_error: [422, 'tool_error', /^why$/],
    template_error: [422, 'template_error', /^why$/],
    rate_limited: [429, 'overloaded', /^why$/],
    overloaded: [429, 'overloaded', /^Model is overloaded$/],
    draining: [503, 'overloaded', /^why$/],
    not_ready: [503, 'overloaded', /^why$/],
    adapter_arriving: [503, 'overloaded', /^why$/],
    client_closed: [499, 'incomplete_generation', /^why$/],
    internal: [500, 'internal', /^why$/],
    worker_lost: [500, 'incomplete_generation', /^Incomplete generation: why$/],
    deadline_exceeded: [504, 'incomplete_generation', /^Incomplete generation: why$/],
  }
  test.each(errorCodes)('%s keeps its status, type and text, whole and streamed', async (code) => {
    under.worker.script = (run) => {
      run.send(accepted, { type: 'error', code, message: 'why' })
      run.end()
    }
    const [status, type, text] = rows[code]
    const answer = await under.post('/generate', body({}))
    expect(answer.status).toBe(status)
    expect(answer.json).toEqual({ error: expect.stringMatching(text), error_type: type })
    expect(answer.headers['retry-after'] !== undefined).toBe(status === 429 || status === 503)
    expect(answer.headers['x-request-id']).toMatch(/^id-/)
    const stream = await under.post('/generate_stream', body({}))
    expect([stream.status, eventsOf(stream.text)]).toEqual([200, [answer.json]])
    under.worker.script = helloWorld
  })

  test('after the first token a stream ends with an error event and without a last text', async () => {
    under.worker.script = (run) => {
      run.send(accepted, token('Hello'))
      setTimeout(run.cut, 20)
    }
    const events = eventsOf((await under.post('/generate_stream', body({}))).text)
    under.worker.script = helloWorld
    expect(events).toEqual([
      expect.objectContaining({ generated_text: null }),
      { error: expect.stringMatching(/^Incomplete generation: /), error_type: 'incomplete_generation' },
    ])
  })

  test.each([
    ['half an event', '{"type":"tok'],
    ['no JSON', 'hello\n'],
    ['an unknown event', '{"type":"surprise"}\n'],
    ['a line without end', 'x'.repeat(limits.runEventBytes + 1)],
    ['nothing at all', ''],
  ])('a worker that sends %s is lost, and the next request is served', async (_, bytes) => {
    under.worker.script = (run) => {
      if (bytes !== '') run.sendRaw(bytes)
      run.end()
    }
    const answer = await under.post('/generate', body({}))
    under.worker.script = helloWorld
    expect([answer.status, answer.json]).toEqual([500, { error: expect.any(String), error_type: 'incomplete_generation' }])
    expect((await under.post('/generate', body({}))).status).toBe(200)
  })

  test('an error inside the gateway is 500 with the id, without what went wrong', async () => {
    under.worker.script = (run) => {
      run.send({ type: 'accepted', promptTokens: 3, queuePosition: 0 })
      run.send({ type: 'error', code: 'internal', message: 'internal error' })
      run.end()
    }
    const answer = await under.post('/generate', body({}))
    under.worker.script = helloWorld
    expect([answer.status, answer.json]).toEqual([500, { error: 'internal error', error_type: 'internal' }])
  })
})
