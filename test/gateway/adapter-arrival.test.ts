/** What a client sees of an adapter that is still on its way. */
import type { RunEvent } from '@quiver/protocol'
import { afterEach, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
afterEach(() => under.close())

const late: RunEvent = { type: 'error', code: 'adapter_arriving', message: 'adapter "text-to-sql" did not arrive within 500 ms' }
const body = { inputs: 'Hi', parameters: { adapter_id: 'text-to-sql', max_new_tokens: 5 } }
const refused = { error: late.message, error_type: 'overloaded' }

test('an answer that is awaited whole is 503 with Retry-After, as overload is and not as a broken adapter', async () => {
  under = await startGateway()
  under.worker.script = (run) => {
    run.send(accepted, late)
    run.end()
  }
  const answer = await under.post('/generate', body)
  expect([answer.status, answer.headers['retry-after'], answer.json]).toEqual([503, '5', refused])
  const openai = await under.post('/v1/completions', { model: 'text-to-sql', prompt: 'Hi' })
  expect([openai.status, openai.headers['retry-after']]).toEqual([503, '5'])
  // It is not run again at once on another worker: that would only load it a second time.
  expect(under.worker.requests).toHaveLength(2)
})

test('a stream is kept alive by comments while the adapter is on its way, and ends with one error event', async () => {
  under = await startGateway({ times: { keepAliveMs: 5 } })
  const many = Promise.withResolvers<void>()
  under.worker.script = (run) => {
    run.send(accepted)
    void many.promise.then(() => {
      run.send(late)
      run.end()
    })
  }
  const response = await fetch(`${under.url}/generate_stream`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  expect(response.status).toBe(200)
  let text = ''
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString()
    if (text.split(':\n\n').length > 3) many.resolve()
  }
  expect(text.startsWith(':\n\n')).toBe(true)
  expect(eventsOf(text)).toEqual([refused])
  expect(text).not.toContain('[DONE]')
})
