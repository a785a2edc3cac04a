/** Parameters of the LoRAX routes that change what the worker is asked for, beyond those of generate.test.ts. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

const generate = (parameters: object) => under.post('/generate', { inputs: 'Hi', parameters })

test('watermark reaches the worker, for greedy and for sampled texts, and only when it is asked for', async () => {
  await generate({ watermark: true })
  await generate({ watermark: true, do_sample: true })
  await generate({ watermark: false })
  await generate({})
  expect(under.worker.requests.map(({ sampling }) => [sampling.sample, sampling.watermark])).toEqual([
    [false, true],
    [true, true],
    [false, undefined],
    [false, undefined],
  ])
})

test('apply_chat_template makes a conversation of the inputs, and nothing else does', async () => {
  await generate({ apply_chat_template: true, adapter_id: 'text-to-sql' })
  await generate({ apply_chat_template: false })
  expect(under.worker.requests.map(({ prompt }) => prompt)).toEqual([
    { kind: 'chat', messages: [{ role: 'user', content: 'Hi' }], addGenerationPrompt: true },
    { kind: 'text', text: 'Hi' },
  ])
})

test('what a template refuses is told as LoRAX does', async () => {
  under.worker.script = (run) => {
    run.send({ type: 'error', code: 'template_error', message: 'Failed applying chat template to inputs: no' })
    run.end()
  }
  const { status, json } = await generate({ apply_chat_template: true })
  expect([status, json]).toEqual([422, { error: 'Failed applying chat template to inputs: no', error_type: 'template_error' }])
})
