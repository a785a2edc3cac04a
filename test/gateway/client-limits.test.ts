import { request } from 'undici'
import { afterEach, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { helloWorld } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
afterEach(() => under.close())

const generate = (parameters: object) => under.post('/generate', { inputs: 'Hi', parameters })

test('one run more than --max-concurrent-requests is answered 429 with Retry-After, on both families', async () => {
  under = await startGateway({ clientLimits: { concurrentRequests: 1 } })
  const begun = Promise.withResolvers<() => void>()
  under.worker.script = (run) => begun.resolve(() => helloWorld(run))
  const first = generate({})
  const end = await begun.promise
  const second = await generate({})
  const third = await under.post('/v1/completions', { model: '', prompt: 'Hi' })
  expect([second.status, second.headers['retry-after'], second.json]).toEqual([
    429,
    '1',
    { error: 'Model is overloaded', error_type: 'overloaded' },
  ])
  expect([third.status, third.headers['retry-after']]).toEqual([429, '1'])
  expect((await under.post('/tokenize', { inputs: 'a' })).status).toBe(429)
  end()
  expect((await first).status).toBe(200)
  // Its place is given back each time, also when the text is refused.
  for (const inputs of ['a', 'a', 'x'.repeat(11), 'a']) {
    expect((await under.post('/tokenize', { inputs })).status).toBe(inputs.length > 10 ? 422 : 200)
  }
})

test('--max-best-of and --max-stop-sequences bound the LoRAX routes, in the words of LoRAX', async () => {
  under = await startGateway({ clientLimits: { bestOf: 3, stopSequences: 1 } })
  expect((await generate({ best_of: 4, do_sample: true })).json).toMatchObject({
    error: 'Input validation error: `best_of` must be > 0 and <= 3. Given: 4',
  })
  expect((await generate({ best_of: 3, do_sample: true })).status).toBe(200)
  expect((await generate({ stop: ['a', 'b'] })).json).toMatchObject({
    error: 'Input validation error: `stop` supports up to 1 stop sequences. Given: 2',
  })
})

test('--max-best-of 1 switches it off, in the words that LoRAX has for that', async () => {
  under = await startGateway({ clientLimits: { bestOf: 1 } })
  expect((await generate({ best_of: 2, do_sample: true })).json).toMatchObject({
    error: 'Input validation error: `best_of` != 1 is not allowed for this endpoint',
  })
  expect((await generate({ best_of: 1 })).status).toBe(200)
})

test('--max-best-of bounds completions that compute more answers than they show, and not how many are shown', async () => {
  under = await startGateway({ clientLimits: { bestOf: 2 } })
  const complete = (fields: object) => under.post('/v1/completions', { model: '', prompt: 'Hi', ...fields })
  expect((await complete({ best_of: 3 })).json).toMatchObject({
    error: { message: '`best_of` must be > 0 and <= 2. Given: 3', param: 'best_of' },
  })
  expect((await complete({ best_of: 2 })).status).toBe(200)
  expect((await complete({ n: 3, best_of: 3 })).status).toBe(200)
  expect((await complete({ n: 3 })).status).toBe(200)
})

test('--max-stop-sequences bounds the OpenAI routes too', async () => {
  under = await startGateway({ clientLimits: { stopSequences: 1 } })
  expect((await under.post('/v1/completions', { model: '', prompt: 'Hi', stop: ['a', 'b'] })).status).toBe(422)
})

test('/info says the limits that are in force', async () => {
  under = await startGateway({ clientLimits: { concurrentRequests: 3, bestOf: 5, stopSequences: 7 } })
  const info = await (await request(`${under.url}/info`)).body.json()
  expect(info).toMatchObject({ max_concurrent_requests: 3, max_best_of: 5, max_stop_sequences: 7 })
})

test('--adapter-source local is for adapters that are named without a source', async () => {
  under = await startGateway({ clientLimits: { adapterSource: 'local' } })
  await generate({ adapter_id: '/folder' })
  await generate({ adapter_id: 'text-to-sql', adapter_source: 'store' })
  await generate({})
  expect(under.worker.requests.map(({ adapter }) => adapter.kind)).toEqual(['local', 'registered', 'base'])
})
