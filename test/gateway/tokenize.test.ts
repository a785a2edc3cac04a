import { afterEach, beforeEach, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

test('POST /tokenize answers the tokens of a text with their places, special ones unless not wanted', async () => {
  const a = { id: 5, text: 'a', start: 0, stop: 1 }
  expect((await under.post('/tokenize', { inputs: 'a' })).json).toEqual([{ id: 1, text: '<s>', start: 0, stop: 0 }, a])
  expect((await under.post('/tokenize', { inputs: 'a', add_special_tokens: false, more: 1 })).json).toEqual([a])
})

test.each([
  [{ inputs: 'x'.repeat(11) }, '`inputs` must have at most 10 characters'],
  [{}, '`inputs` must be a string'],
  [{ inputs: 'a', add_special_tokens: 'yes' }, '`add_special_tokens` must be true or false'],
  [[], 'the body must be a JSON object'],
])('POST /tokenize refuses %j as a LoRAX route', async (body, text) => {
  const { status, json, headers } = await under.post('/tokenize', body, { 'x-request-id': 'mine' })
  expect([status, json, headers['x-request-id']]).toEqual([
    422,
    { error: `Input validation error: ${text}`, error_type: 'validation' },
    'mine',
  ])
})

test('GET /startup generates one token of the base model', async () => {
  const { status } = await fetch(`${under.url}/startup`)
  expect(status).toBe(200)
  expect(under.worker.requests).toMatchObject([{ adapter: { kind: 'base' }, prompt: { text: 'Who?' }, maxNewTokens: 1 }])
})

test('GET /startup is 500 with the reason when none comes', async () => {
  under.worker.script = (run) => {
    run.send(accepted, { type: 'error', code: 'internal', message: 'internal error' })
    run.end()
  }
  const response = await fetch(`${under.url}/startup`)
  expect([response.status, await response.json()]).toEqual([500, { error: 'internal error', error_type: 'internal' }])
})

test('both are there for one method only', async () => {
  expect((await fetch(`${under.url}/tokenize`)).headers.get('allow')).toBe('POST')
  expect((await under.post('/startup', {})).headers['allow']).toBe('GET, HEAD')
})
