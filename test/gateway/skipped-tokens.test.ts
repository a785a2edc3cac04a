import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
  under.worker.script = (run) => {
    const guessed = Object.assign(token(' world', true), { skipped: true as const })
    run.send(accepted, token('Hello'), guessed, Object.assign(done('Hello world'), { skippedTokens: 1 }))
    run.end()
  }
})
afterEach(() => under.close())

describe('tokens that took no step', () => {
  test('are marked and counted in an answer and its headers', async () => {
    const { json, headers } = await under.post('/generate', { inputs: 'Hi', parameters: { details: true } })
    expect(json).toMatchObject({ details: { skipped_tokens: 1, tokens: [{ skipped: false }, { skipped: true }] } })
    expect(headers).toMatchObject({ 'x-skipped-tokens': '1' })
  })

  test('are marked in the events of a stream', async () => {
    const { text } = await under.post('/generate_stream', { inputs: 'Hi' })
    expect(eventsOf(text)).toMatchObject([{ token: { skipped: false } }, { token: { skipped: true } }])
  })

  test('are counted in the metrics', async () => {
    await under.post('/generate', { inputs: 'Hi' })
    const text = await (await fetch(`${under.url}/metrics`)).text()
    expect(text).toContain('lorax_request_skipped_tokens_sum 1\n')
  })
})
