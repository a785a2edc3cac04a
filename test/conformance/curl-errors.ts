/** Every error that a request can bring about: status, type, text, and in which family's form. */
import { expect } from 'vitest'
import { type Check, type Curl, dataOf } from './check.ts'

const valid = { inputs: 'Hi', parameters: { max_new_tokens: 1 } }
const validChat = { model: '', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1 }

export function errorChecks(curl: Curl): readonly Check[] {
  const check = (name: string, run: Check['run']): Check => ({ name: `curl: ${name}`, run })
  /** The same fault on a route of each family. */
  const both = async (request: Parameters<Curl>[1]) => {
    const [lorax, openai] = await Promise.all(['/generate', '/v1/chat/completions'].map((path) => curl(path, request)))
    return { lorax, openai }
  }
  const inBothForms = (name: string, request: Parameters<Curl>[1], status: number, type: string, text: RegExp) =>
    check(name, async () => {
      const { lorax, openai } = await both(request)
      expect([lorax?.status, lorax?.json]).toEqual([status, { error: expect.stringMatching(text), error_type: type }])
      expect([openai?.status, openai?.json]).toEqual([
        status,
        {
          error: { message: expect.stringMatching(text), type: 'invalid_request_error', code: expect.any(String), param: null },
          error_type: type,
        },
      ])
      for (const answer of [lorax, openai]) expect(answer?.headers['content-type']).toBe('application/json')
    })
  return [
    inBothForms('a body that is no JSON is 400', { body: '{"inputs":' }, 400, 'invalid_request', /^Failed to parse/),
    inBothForms('an empty body is 400', { body: '' }, 400, 'invalid_request', /^Failed to parse/),
    inBothForms('a body that is no object is 422', { body: '[]' }, 422, 'validation', /the body must be a JSON object$/),
    inBothForms(
      'another content type is 415 with the text of LoRAX',
      { body: valid, headers: { 'content-type': 'text/plain' } },
      415,
      'unsupported_media_type',
      /^Expected request with `Content-Type: application\/json`/,
    ),
    inBothForms(
      'an encoded body is 415',
      { body: valid, headers: { 'content-encoding': 'gzip' } },
      415,
      'unsupported_media_type',
      /^Expected request without `Content-Encoding`/,
    ),
    inBothForms(
      'a body above 2 MB is 413',
      { body: JSON.stringify({ inputs: 'x'.repeat(2 * 1024 * 1024) }) },
      413,
      'too_large',
      /longer than the 2097152 bytes/,
    ),
    check('JSON that is nested too deeply is 400', async () => {
      const { status } = await curl('/generate', { body: `{"inputs":"Hi","x":${'['.repeat(5000)}${']'.repeat(5000)}}` })
      expect(status).toBe(400)
    }),
    check('an unknown adapter is 424 generation on the routes of LoRAX and 404 under /v1', async () => {
      const text = "Adapter 'nobody' is not known here"
      const lorax = await curl('/generate', { body: { inputs: 'Hi', parameters: { adapter_id: 'nobody' } } })
      expect([lorax.status, lorax.json]).toMatchObject([424, { error_type: 'generation' }])
      expect((lorax.json as { error: string }).error).toMatch(/^Request failed during generation: Server error: /)
      const openai = await curl('/v1/chat/completions', { body: { ...validChat, model: 'nobody' } })
      expect([openai.status, openai.json]).toMatchObject([
        404,
        {
          error: { code: 'adapter_not_found', param: 'model', message: expect.stringContaining(text) },
          error_type: 'generation',
        },
      ])
    }),
    check('a version that there is not is 424', async () => {
      for (const adapter_id of ['shout@99', `shout@sha256:${'0'.repeat(64)}`, 'shout@nowhere']) {
        const { status, json } = await curl('/generate', { body: { inputs: 'Hi', parameters: { adapter_id } } })
        expect([adapter_id, status, json]).toMatchObject([adapter_id, 424, { error_type: 'generation' }])
      }
    }),
    check('ids that try to be paths are 422 and reach no disk', async () => {
      for (const adapter_id of [
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
      ]) {
        const { status, json } = await curl('/generate', { body: { inputs: 'Hi', parameters: { adapter_id } } })
        expect([adapter_id, status, json]).toMatchObject([adapter_id, 422, { error_type: 'validation' }])
      }
    }),
    check('a local folder outside every root is 424 and says no path of the server', async () => {
      const parameters = { adapter_id: '/etc', adapter_source: 'local' }
      const { status, text } = await curl('/generate', { body: { inputs: 'Hi', parameters } })
      expect(status).toBe(424)
      expect(text).not.toMatch(/node:|\/packages|at async/)
    }),
    check('a schema that does not compile is 422 and quick', async () => {
      const response_format = { type: 'json_object', schema: { type: 'object', properties: { a: { not: {} } } } }
      const { status, json } = await curl('/generate', { body: { inputs: 'Hi', parameters: { response_format } } })
      expect([status, json]).toMatchObject([422, { error_type: 'validation' }])
    }),
    check('a pattern that blows up is 422 or holds, and others are served meanwhile', async () => {
      const grammar = { type: 'regex', value: '(((a{1,50}){1,50}){1,50}){1,50}' }
      const [blown, other] = await Promise.all([
        curl('/generate', { body: { inputs: 'Hi', parameters: { grammar, max_new_tokens: 1 } } }),
        curl('/generate', { body: valid }),
      ])
      expect([200, 422]).toContain(blown.status)
      expect(other.status).toBe(200)
    }),
    check('a function that is not offered is 422 tool_error', async () => {
      const tools = [{ type: 'function', function: { name: 'now' } }]
      const tool_choice = { type: 'function', function: { name: 'launch' } }
      const { status, json } = await curl('/v1/chat/completions', { body: { ...validChat, tools, tool_choice } })
      expect([status, json]).toMatchObject([422, { error: { code: 'tool_error' }, error_type: 'tool_error' }])
    }),
    check('an error of a /v1 stream is nested, and no [DONE] follows', async () => {
      const body = { ...validChat, stream: true, response_format: { type: 'json_schema', schema: { not: {} } } }
      const { status, text, json } = await curl('/v1/chat/completions', { body })
      expect(text).not.toContain('[DONE]')
      const found = status === 200 ? JSON.parse(dataOf(text).at(-1) ?? '') : json
      expect(found).toMatchObject({ error: { message: expect.any(String) }, error_type: 'validation' })
    }),
    check('no error has a stack or a path of the source in it', async () => {
      const bodies = ['{', '[]', '{"inputs":1}', '{"inputs":"Hi","parameters":{"adapter_id":"nobody"}}']
      const answers = await Promise.all(
        bodies.flatMap((body) =>
          ['/', '/generate', '/v1/completions', '/tokenize', '/embed'].map((path) => curl(path, { body })),
        ),
      )
      for (const { text } of answers) expect(text).not.toMatch(/node:|\.ts\b|\/packages|\bat \w+ \(/)
    }),
  ]
}
