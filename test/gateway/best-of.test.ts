/** `best_of` and `top_n_tokens` of the LoRAX routes. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, type Script, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

/** The n-th run says its number, with this log-probability. */
function likelihoods(...logprobs: readonly number[]): Script {
  let runs = 0
  return (run) => {
    const logprob = logprobs[runs] ?? 0
    const text = `run ${runs++}`
    const { seed } = run.request.sampling
    run.send(
      accepted,
      { ...token(text, true), logprob } as never,
      done(text, { generatedTokens: 1, ...(seed === undefined ? {} : { seed }) }),
    )
    run.end()
  }
}

test('best_of answers the likelier run, and the other in its details', async () => {
  under.worker.script = likelihoods(-3, -1)
  const { json } = await under.post('/generate', { inputs: 'Hi', parameters: { best_of: 2, do_sample: true, details: true } })
  expect(json).toEqual({
    generated_text: 'run 1',
    details: {
      finish_reason: 'eos_token',
      prompt_tokens: 3,
      generated_tokens: 1,
      skipped_tokens: 0,
      seed: 42,
      prefill: [],
      tokens: [{ id: 5, text: 'run 1', logprob: -1, special: false, skipped: false }],
      best_of_sequences: [
        {
          generated_text: 'run 0',
          finish_reason: 'eos_token',
          generated_tokens: 1,
          seed: 42,
          prefill: [],
          tokens: [{ id: 5, text: 'run 0', logprob: -3, special: false, skipped: false }],
        },
      ],
    },
  })
})

test('best_of without details says only the text, and return_full_text holds for both', async () => {
  under.worker.script = likelihoods(-1, -3)
  expect((await under.post('/', { inputs: 'Hi', parameters: { best_of: 2, temperature: 0.5 } })).json).toEqual([
    { generated_text: 'run 0' },
  ])
  under.worker.script = likelihoods(-1, -3)
  const parameters = { best_of: 2, top_k: 5, details: true, return_full_text: true }
  expect((await under.post('/generate', { inputs: 'Hi ', parameters })).json).toMatchObject({
    generated_text: 'Hi run 0',
    details: { best_of_sequences: [{ generated_text: 'Hi run 1' }] },
  })
})

test.each([
  [{ best_of: 2 }, 'you must use sampling when `best_of` is > 1'],
  [{ best_of: 2, do_sample: true, seed: 1 }, '`seed` must not be set when `best_of` > 1'],
  [{ best_of: 3, do_sample: true }, '`best_of` must be > 0 and <= 2. Given: 3'],
])('%j is refused in the words of LoRAX', async (parameters, text) => {
  const { status, json } = await under.post('/generate', { inputs: 'Hi', parameters })
  expect([status, json]).toEqual([422, { error: `Input validation error: ${text}`, error_type: 'validation' }])
})

test('when one run fails, the other is ended and the request fails with the reason', async () => {
  const left: Promise<void>[] = []
  let runs = 0
  under.worker.script = (run) => {
    if (runs++ === 0) {
      run.send(accepted, token('Hello'))
      left.push(run.left)
    } else {
      run.send({ type: 'error', code: 'adapter_invalid', message: 'rank 128 exceeds 64' })
      run.end()
    }
  }
  const { status, json } = await under.post('/generate', { inputs: 'Hi', parameters: { best_of: 2, do_sample: true } })
  expect([status, json]).toEqual([
    424,
    { error: 'Request failed during generation: Server error: rank 128 exceeds 64', error_type: 'generation' },
  ])
  await Promise.all(left)
})

test('top_n_tokens comes in top_tokens as TGI has it, beside the alternatives of LoRAX', async () => {
  const alternatives = [
    { id: 7, text: 'Bye', logprob: -2, special: false },
    { id: 2, text: '<end>', logprob: -3, special: true },
  ]
  under.worker.script = (run) => {
    run.send(accepted, { ...token('Hello', true), alternatives } as never, done('Hello'))
    run.end()
  }
  const parameters = { details: true, top_n_tokens: 2, return_k_alternatives: 1 }
  const { json } = await under.post('/generate', { inputs: 'Hi', parameters })
  expect(json).toMatchObject({
    details: { tokens: [{ alternative_tokens: [{ id: 7, text: 'Bye', logprob: -2 }] }], top_tokens: [alternatives] },
  })
  expect(under.worker.requests[0]?.alternatives).toBe(2)
  const { text } = await under.post('/generate_stream', { inputs: 'Hi', parameters: { top_n_tokens: 1 } })
  const [event] = eventsOf(text)
  expect(event).toMatchObject({ top_tokens: [alternatives[0]] })
  expect(JSON.stringify(event)).not.toContain('alternative_tokens')
})
