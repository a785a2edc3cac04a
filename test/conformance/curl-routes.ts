/** Which routes there are, by what methods, and what they say of the server. */
import { expect } from 'vitest'
import { type Check, type Curl, dataOf } from './check.ts'

const asked = { inputs: '1, 2, 3, 4,', parameters: { max_new_tokens: 2 } }
const answer = { generated_text: ' 5' }

const infoFields = [
  ...[
    'model_id',
    'model_sha',
    'model_dtype',
    'model_device_type',
    'model_pipeline_tag',
    'max_concurrent_requests',
    'max_best_of',
  ],
  ...['max_stop_sequences', 'max_input_length', 'max_total_tokens', 'waiting_served_ratio', 'max_batch_total_tokens'],
  ...['max_waiting_tokens', 'validation_workers', 'eager_prefill', 'version', 'sha', 'docker_label', 'request_logger_url'],
]
const loraxMetrics = [
  ...['request_count', 'request_success', 'request_failure', 'request_duration', 'request_validation_duration'],
  ...['request_queue_duration', 'request_inference_duration', 'request_mean_time_per_token_duration'],
  ...['request_generated_tokens', 'request_input_length', 'request_max_new_tokens', 'queue_length', 'batch_current_size'],
].map((name) => `lorax_${name}`)

export function routeChecks(curl: Curl): readonly Check[] {
  const check = (name: string, run: Check['run']): Check => ({ name: `curl: ${name}`, run })
  return [
    check('POST / answers a list of one', async () => {
      const { status, headers, json } = await curl('/', { body: asked })
      expect([status, headers['content-type'], json]).toEqual([200, 'application/json', [answer]])
    }),
    check('POST / with stream answers events', async () => {
      const { headers, text } = await curl('/', { body: { ...asked, stream: true } })
      expect([headers['content-type'], dataOf(text).length]).toEqual(['text/event-stream', 2])
    }),
    check('POST /generate answers an object and ignores stream', async () => {
      expect((await curl('/generate', { body: { ...asked, stream: true } })).json).toEqual(answer)
    }),
    check('POST /generate_stream answers events', async () => {
      const { headers, text } = await curl('/generate_stream', { body: asked })
      expect([headers['content-type'], dataOf(text).length]).toEqual(['text/event-stream', 2])
    }),
    check('POST /invocations is POST /', async () => {
      expect((await curl('/invocations', { body: asked })).json).toEqual([answer])
      expect(dataOf((await curl('/invocations', { body: { ...asked, stream: true } })).text)).toHaveLength(2)
    }),
    check('GET /startup is 200 after a token was generated', async () => {
      expect((await curl('/startup')).status).toBe(200)
    }),
    check('POST /tokenize gives ids, pieces and places in characters', async () => {
      const { json } = await curl('/tokenize', { body: { inputs: 'Hi ünïcode', add_special_tokens: false } })
      const tokens = json as { id: number; text: string; start: number; stop: number }[]
      expect(Object.keys(tokens[0] ?? {})).toEqual(['id', 'text', 'start', 'stop'])
      expect([tokens[0]?.start, tokens.at(-1)?.stop]).toEqual([0, 10])
    }),
    check('POST /tokenize takes special tokens by default', async () => {
      const [byDefault, said] = await Promise.all(
        [{}, { add_special_tokens: true }].map((more) => curl('/tokenize', { body: { inputs: 'Hi', ...more } })),
      )
      expect(byDefault?.json).toEqual(said?.json)
    }),
    check('POST /embed gives a list of numbers, an adapter other ones', async () => {
      const inputs = 'How many users are there?'
      const [base, sql] = await Promise.all(
        [null, { adapter_id: 'text-to-sql' }].map((parameters) => curl('/embed', { body: { inputs, parameters } })),
      )
      const numbers = (json: unknown) => (json as { embeddings: number[] }).embeddings
      expect([numbers(base?.json).length, numbers(sql?.json).length]).toEqual([576, 576])
      expect(numbers(base?.json)).not.toEqual(numbers(sql?.json))
      expect(sql?.headers).toMatchObject({ 'x-adapter-id': 'text-to-sql' })
    }),
    check('POST /classify and /classify_batch are 424 generation', async () => {
      for (const path of ['/classify', '/classify_batch']) {
        const { status, json } = await curl(path, { body: { inputs: 'Hi' } })
        expect([status, json]).toMatchObject([424, { error_type: 'generation' }])
      }
    }),
    check('GET /info has every field of LoRAX', async () => {
      const { json } = await curl('/info')
      expect(Object.keys(json as object)).toEqual(expect.arrayContaining(infoFields))
      expect(json).toMatchObject({ model_id: 'smollm2-135m-instruct', max_total_tokens: 2048, max_input_length: 2047 })
    }),
    check('GET /metrics is the text of Prometheus with the names of LoRAX', async () => {
      const { text, headers } = await curl('/metrics')
      expect(headers['content-type']).toMatch(/^text\/plain/)
      for (const name of loraxMetrics) expect(text).toMatch(new RegExp(`^# TYPE ${name} `, 'm'))
    }),
    check('GET /metrics is JSON for who accepts it', async () => {
      const { json } = await curl('/metrics', { headers: { accept: 'application/json' } })
      expect((json as { name: string }[]).map(({ name }) => name)).toEqual(expect.arrayContaining(loraxMetrics))
    }),
    check('GET /docs is a page and /api-doc/openapi.json its document', async () => {
      const [page, document, other] = await Promise.all(
        ['/docs', '/api-doc/openapi.json', '/openapi.json'].map((path) => curl(path)),
      )
      expect(page?.headers['content-type']).toMatch(/^text\/html/)
      expect(document?.json).toMatchObject({ openapi: expect.stringMatching(/^3\.1/), paths: { '/generate': {} } })
      expect(other?.text).toBe(document?.text)
    }),
    check('GET /v1/models lists the base and every adapter', async () => {
      const { json } = await curl('/v1/models')
      const { data } = json as { data: { id: string }[] }
      expect(data.map(({ id }) => id)).toEqual(expect.arrayContaining(['smollm2-135m-instruct', 'shout']))
    }),
    check('a preflight allows any origin, GET and POST, and content-type', async () => {
      const { status, headers } = await curl('/generate', {
        method: 'OPTIONS',
        headers: { origin: 'https://example.org', 'access-control-request-method': 'POST' },
      })
      expect([status, headers['access-control-allow-origin']]).toEqual([204, '*'])
      expect(headers['access-control-allow-methods']).toMatch(/GET.*POST/)
      expect(headers['access-control-allow-headers']).toMatch(/content-type/)
    }),
    check('every answer may be read by any origin', async () => {
      const { headers } = await curl('/generate', { body: { inputs: '' }, headers: { origin: 'https://example.org' } })
      expect(headers['access-control-allow-origin']).toBe('*')
    }),
    check('another method is 405 and says which are allowed', async () => {
      for (const [path, method, allow] of [
        ['/generate', 'PUT', 'POST'],
        ['/generate', 'GET', 'POST'],
        ['/info', 'POST', 'GET, HEAD'],
        ['/', 'DELETE', 'GET, HEAD, POST'],
        ['/embed', 'GET', 'POST'],
      ] as const) {
        const { status, headers, json } = await curl(path, { method })
        expect([path, status, headers['allow'], json]).toMatchObject([path, 405, allow, { error_type: 'method_not_allowed' }])
      }
    }),
    check('a HEAD of what may be GET is 200 without a body', async () => {
      const { status, text } = await curl('/info', { method: 'HEAD' })
      expect([status, text]).toEqual([200, ''])
    }),
    check('an unknown route is 404 as JSON, under /v1 as OpenAI has it', async () => {
      const [lorax, openai] = await Promise.all(['/nothing', '/v1/nothing'].map((path) => curl(path)))
      expect([lorax?.status, lorax?.json]).toMatchObject([404, { error: 'There is no such route', error_type: 'not_found' }])
      expect([openai?.status, openai?.json]).toMatchObject([404, { error: { code: 'not_found' }, error_type: 'not_found' }])
    }),
    check('every answer has a request id, the own one where it is usable', async () => {
      const ids = await Promise.all(
        ['/generate', '/v1/completions', '/nothing', '/info', '/health', '/docs', '/metrics'].map(async (path) => {
          const { headers } = await curl(path, { headers: { 'x-request-id': 'mine-1' } })
          return headers['x-request-id']
        }),
      )
      expect(ids).toEqual(ids.map(() => 'mine-1'))
      expect((await curl('/info', { headers: { 'x-request-id': 'no good' } })).headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
    }),
  ]
}
