/** The OpenAPI document and its page, held against the routes of the app and against real answers. */

import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AppDeps, createApp } from '../../packages/gateway/src/routes/app.ts'
import type { JsonSchema, OpenapiDocument, Operation } from '../../packages/gateway/src/routes/openapi/document.ts'
import { bodySchemas, routeTable } from '../../packages/gateway/src/routes/openapi/route-table.ts'
import { docsApp } from '../../packages/gateway/src/routes/openapi/routes.ts'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'

let under: GatewayUnderTest
let document: OpenapiDocument
beforeAll(async () => {
  under = await startGateway()
  document = (await (await request(`${under.url}/openapi.json`)).body.json()) as OpenapiDocument
})
afterAll(() => under.close())

const operations = (): readonly { readonly where: string; readonly operation: Operation }[] =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ where: `${method} ${path}`, operation })),
  )

describe('the document', () => {
  test('is the same under both paths, and of OpenAPI 3.1', async () => {
    const there = await request(`${under.url}/api-doc/openapi.json`)
    expect(await there.body.json()).toEqual(document)
    expect(document).toMatchObject({ openapi: expect.stringMatching(/^3\.1\.\d$/), info: { title: 'Quiver', version: '9.9.9' } })
  })

  test('has every route that the app has, and no other', () => {
    const described = operations().map(({ where }) => where)
    // Only what it registers is looked at; nothing is asked of it.
    const app = createApp({ version: '', now: () => new Date(0) } as unknown as AppDeps)
    const routes = app.routes.filter(({ method }) => method !== 'ALL')
    expect(described.toSorted()).toEqual(
      routes.map(({ method, path }) => `${method.toLowerCase()} ${inOpenapi(path)}`).toSorted(),
    )
  })

  test('names every operation once, and answers each with a success', () => {
    const ids = operations().map(({ operation }) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const { where, operation } of operations()) {
      expect(Object.keys(operation.responses), where).toContain('200')
      for (const [status, { description }] of Object.entries(operation.responses)) {
        expect(status).toMatch(/^[2-5]\d\d$/)
        expect(description).not.toBe('')
      }
      const inPath = [...where.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      expect(operation.parameters?.filter((one) => one.in === 'path').map(({ name }) => name) ?? []).toEqual(inPath)
    }
  })

  test('refers only to schemas that it has, and uses all of them', () => {
    const used = [...JSON.stringify(document.paths).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name)
    expect([...new Set(used)].toSorted()).toEqual(Object.keys(document.components.schemas).toSorted())
  })

  test('has only schemas of JSON Schema 2020-12', () => {
    for (const [name, schema] of Object.entries(document.components.schemas)) expectSchema(schema, name)
  })

  test('shows both families their own error', () => {
    const bodyOf = (path: string, status: string) =>
      document.paths[path]?.['post']?.responses[status]?.content?.['application/json']?.schema
    expect(bodyOf('/generate', '424')).toEqual({ $ref: '#/components/schemas/LoraxError' })
    expect(bodyOf('/v1/completions', '404')).toEqual({ $ref: '#/components/schemas/OpenaiError' })
  })

  test('wants a key for what a server with keys keeps closed, and for nothing else', () => {
    const open = operations().filter(({ operation }) => operation.security.length === 0)
    expect(open.map(({ where }) => where)).toEqual(expect.arrayContaining(['get /', 'get /health', 'get /ping']))
    for (const { operation } of operations()) expect('401' in operation.responses).toBe(operation.security.length > 0)
    expect(Object.keys(document.paths['/generate']?.['post']?.responses ?? {})).toEqual(expect.arrayContaining(['401', '403']))
  })

  test('says what each field of a request means', () => {
    for (const name of ['GenerateRequest', 'TokenizeRequest', 'CompletionRequest', 'ChatRequest'] as const) {
      const properties = document.components.schemas[name]?.['properties'] as Record<string, JsonSchema>
      for (const [field, schema] of Object.entries(properties)) {
        if (field !== 'stream_options') expect(schema['description'], `${name}.${field}`).toBeTruthy()
      }
    }
  })
})

describe('an example', () => {
  // Those of administration are in test/gateway/admin/documented.test.ts, with a catalogue to change.
  const examples = routeTable.flatMap(({ path, family, request: sent, answers = [] }) =>
    sent === undefined || (family !== 'lorax' && family !== 'openai') ? [] : [{ path, sent, answers }],
  )

  test.each(examples)('of $path is what its schema takes, and is answered as described', async ({ path, sent, answers }) => {
    expect(bodySchemas[sent.body].safeParse(sent.example).success).toBe(true)
    const model = path.startsWith('/v1/') ? { model: 'text-to-sql' } : {}
    const answered = await under.post(path, { ...sent.example, ...model })
    expect(answered.status, answered.text).toBe(200)
    const answer = answers.find(({ type }) => type === String(answered.headers['content-type']).split(';')[0])
    if (answer?.body === undefined) throw new Error(`${path} answers ${answered.headers['content-type']}`)
    const bodies =
      answer.type === 'text/event-stream'
        ? eventsOf(answered.text)
        : answer.isList !== undefined
          ? answered.json
          : [answered.json]
    for (const body of bodies as unknown[]) expect(bodySchemas[answer.body].parse(body)).toEqual(body)
  })
})

describe('an answer', () => {
  const full = { details: true, decoder_input_details: true, do_sample: true, seed: 7, top_n_tokens: 2, return_k_alternatives: 2 }
  const chat = { messages: [{ role: 'user', content: 'Hi' }], logprobs: true, top_logprobs: 2 }
  const streamed = { stream: true, stream_options: { include_usage: true } }
  const cases = [
    ['GenerateAnswer', '/generate', { inputs: 'Hi', parameters: full }],
    ['GenerateEvent', '/generate_stream', { inputs: 'Hi', parameters: { ...full, decoder_input_details: false } }],
    ['ChatAnswer', '/v1/chat/completions', chat],
    ['ChatChunk', '/v1/chat/completions', { ...chat, ...streamed }],
    ['CompletionAnswer', '/v1/completions', { prompt: 'Hi', logprobs: 2, echo: true }],
    ['CompletionChunk', '/v1/completions', { prompt: 'Hi', logprobs: 2, echo: true, ...streamed }],
    ['EmbeddingsAnswer', '/v1/embeddings', { input: 'Hi' }],
    ['LoraxError', '/generate', { inputs: '' }],
    ['OpenaiError', '/v1/completions', { prompt: 'Hi', temperature: -1 }],
  ] as const

  test.each(cases)('%s of %s has no field that its schema does not name', async (name, path, body) => {
    const answered = await under.post(path, body)
    const bodies = answered.json === undefined ? jsonEvents(answered.text) : [answered.json]
    expect(bodies.length).toBeGreaterThan(0)
    for (const one of bodies) expect(bodySchemas[name].parse(one)).toEqual(one)
  })

  test.each([
    ['ServerInfo', '/info'],
    ['ModelList', '/v1/models'],
    ['ModelCard', '/v1/models/text-to-sql'],
  ] as const)('%s of %s has no field that its schema does not name', async (name, path) => {
    const body = await (await request(under.url + path)).body.json()
    expect(bodySchemas[name].parse(body)).toEqual(body)
  })
})

describe('the page', () => {
  test('has every route and every schema, and needs nothing but itself', async () => {
    const { body, headers, statusCode } = await request(`${under.url}/docs`)
    const html = await body.text()
    expect([statusCode, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; style-src 'sha256-[^']+';/)
    expect(html).not.toMatch(/<script|<link|<img|src=|@import|url\(/)
    const anchors = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
    expect(new Set(anchors).size).toBe(anchors.length)
    for (const [, target] of html.matchAll(/href="#([^"]+)"/g)) expect(anchors).toContain(target)
    for (const { operation } of operations()) expect(anchors).toContain(operation.operationId)
    for (const name of Object.keys(document.components.schemas)) expect(anchors).toContain(`schema-${name}`)
    expect(html.match(/curl http/g)).toHaveLength(operations().length)
    // Without a colour of its own, white text would stand on white.
    for (const [, method] of html.matchAll(/class="method (\w+)"/g))
      expect(html).toMatch(new RegExp(`^\\.${method} \\{ background: #`, 'm'))
  })

  test('shows a version as text, whatever it is', async () => {
    const app = docsApp('<b onclick="x">', () => 'id')
    const page = await app.request('/docs', {}, { incoming: {}, outgoing: {} })
    expect(await page.text()).toContain('&lt;b onclick=&quot;x&quot;&gt;')
  })
})

const TYPES = ['string', 'number', 'integer', 'boolean', 'object', 'array', 'null']
const KEYWORDS: Readonly<Record<string, 'schema' | 'list' | 'map' | 'value'>> = {
  ...{ items: 'schema', additionalProperties: 'schema', propertyNames: 'schema' },
  ...{ anyOf: 'list', allOf: 'list', oneOf: 'list', properties: 'map' },
  ...Object.fromEntries(
    'type description const enum required minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength minItems maxItems pattern format'
      .split(' ')
      .map((keyword) => [keyword, 'value']),
  ),
}

/** Only keywords that a reader of 2020-12 knows, each with the kind of value that it must have. */
function expectSchema(schema: unknown, where: string): void {
  if (typeof schema === 'boolean') return
  expect(schema, where).toSatisfy((value) => typeof value === 'object' && value !== null && !Array.isArray(value))
  for (const [keyword, value] of Object.entries(schema as JsonSchema)) {
    const inside = `${where}/${keyword}`
    expect(Object.keys(KEYWORDS), inside).toContain(keyword)
    if (KEYWORDS[keyword] === 'schema') expectSchema(value, inside)
    if (KEYWORDS[keyword] === 'list') for (const one of value as unknown[]) expectSchema(one, inside)
    if (KEYWORDS[keyword] === 'map') for (const one of Object.values(value as object)) expectSchema(one, inside)
    if (keyword === 'type') for (const name of [value].flat()) expect(TYPES, inside).toContain(name)
    if (keyword === 'required') {
      expect(Object.keys((schema as { properties?: object }).properties ?? {}), inside).toEqual(
        expect.arrayContaining(value as string[]),
      )
    }
  }
}

/** Of a stream that may end with `[DONE]`. */
function jsonEvents(text: string): unknown[] {
  return text
    .split('\n\n')
    .map((event) => event.replace(/^data: ?/, ''))
    .filter((data) => data.startsWith('{'))
    .map((data) => JSON.parse(data))
}

/** @example inOpenapi('/v1/models/:id{.+}') // '/v1/models/{id}' */
function inOpenapi(path: string): string {
  return path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}')
}
