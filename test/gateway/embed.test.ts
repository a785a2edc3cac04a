/** LoRAX's `POST /embed`, `/classify` and `/classify_batch` in front of a scripted worker. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type GatewayUnderTest, sqlDigest, startGateway } from '../support/gateway-under-test.ts'

let under: GatewayUnderTest
beforeAll(async () => {
  under = await startGateway()
})
afterAll(() => under.close())

test('an embedding is a bare list of numbers, with the headers of every answer', async () => {
  // The scripted worker's numbers are 1 and -2. What lorax-client sends: nulls, and a stream that there is none of.
  const { status, json, headers } = await under.post('/embed', { inputs: 'Hello', parameters: null, stream: false })
  expect([status, json]).toEqual([200, { embeddings: [1, -2] }])
  expect(headers).toMatchObject({ 'x-compute-characters': '5', 'x-prompt-tokens': '3', 'x-generated-tokens': '0' })
  expect(under.worker.requests.at(-1)).toMatchObject({ goal: 'embedding', prompt: { kind: 'text', text: 'Hello' } })
})

test('the adapter is applied and named in the headers', async () => {
  const { headers } = await under.post('/embed', { inputs: 'Hello', parameters: { adapter_id: 'text-to-sql' } })
  expect(headers).toMatchObject({ 'x-adapter-id': 'text-to-sql', 'x-adapter-source': 'store', 'x-adapter-digest': sqlDigest })
  expect(under.worker.requests.at(-1)?.adapter).toEqual({ kind: 'registered', name: 'text-to-sql', digest: sqlDigest })
})

test.each([
  [{ inputs: '' }, 422, 'validation', 'Input validation error: `inputs` cannot be empty'],
  [{ parameters: {} }, 422, 'validation', 'Input validation error: `inputs` must be a string'],
  [{ inputs: 'Hi', parameters: { adapter_id: '../x' } }, 422, 'validation', 'Input validation error: adapter name "../x"'],
  [{ inputs: 'Hi', parameters: { adapter_id: 'a', merged_adapters: { ids: ['a'] } } }, 422, 'validation', 'at most one of'],
  [{ inputs: 'Hi', parameters: { adapter_id: 'nobody' } }, 424, 'generation', "Server error: Adapter 'nobody' is not known here"],
])('%j is refused as on the other LoRAX routes', async (body, status, error_type, text) => {
  const answer = await under.post('/embed', body)
  expect([answer.status, answer.json]).toEqual([status, { error: expect.stringContaining(text), error_type }])
})

test('what the worker says of a text that is too long names it as the request does', async () => {
  const before = under.worker.script
  under.worker.script = (run) => {
    run.send({ type: 'error', code: 'invalid_parameters', message: '`input` must have at most 7 tokens. Given: 8' })
    run.end()
  }
  const { json } = await under.post('/embed', { inputs: 'Hello' })
  under.worker.script = before
  expect(json).toMatchObject({ error: 'Input validation error: `inputs` must have at most 7 tokens. Given: 8' })
})

test.each(['/classify', '/classify_batch'])('%s says in a way that lorax-client knows that this model does not', async (path) => {
  const { status, json } = await under.post(path, { inputs: 'Hi' })
  const error = 'Request failed during generation: Server error: Model does not support classification'
  expect([status, json]).toEqual([424, { error, error_type: 'generation' }])
})
