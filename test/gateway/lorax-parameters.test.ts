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
