/** The real openai SDK and huggingface_hub of PyPI against a running server. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { distance, embeddingCases } from '../support/embedding-fixtures.ts'
import { goldenCases } from '../support/golden.ts'
import { pythonWith } from '../support/python-venv.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

/** Of numbers of about 1, between our fp32 and transformers'. */
const EMBEDDING_TOLERANCE = 2e-3

const texts = goldenCases.map(({ text }) => text)

let server: QuiverServer
let results: Record<string, unknown>
beforeAll(async () => {
  const python = await pythonWith('test/conformance/openai-requirements.txt')
  // fp32 gives PEFT's tokens to the last; int8 may part from them where two are nearly equal.
  server = await startQuiver({ env: { QUIVER_DTYPE: 'fp32' } })
  const script = join(import.meta.dirname, 'openai-client.py')
  const { stdout } = await promisify(execFile)(python, [script, server.url, JSON.stringify(goldenCases)], { timeout: 240_000 })
  results = JSON.parse(stdout)
})
afterAll(() => server?.stop())

test('the base model and every adapter are listed', () => {
  const base = 'smollm2-135m-instruct'
  const adapters = ['sentiment', 'shout', 'support-json', 'text-to-sql']
  expect(results['models']).toEqual([[base, 'model', 'quiver', null], ...adapters.map((name) => [name, 'model', 'quiver', base])])
})

test.each(['golden_completions', 'golden_completion_streams', 'golden_hub', 'golden_hub_streams'])(
  '%s: every golden case has the text that PEFT gives',
  (name) => {
    expect(results[name]).toEqual(texts)
  },
)

test('a chat is its rendering as a prompt, whole and streamed, through both clients', () => {
  expect(results['chat_prompts']).toEqual({
    object: 'chat.completion',
    model: true,
    roles: ['assistant', null],
    same_tokens: true,
    texts: [true, true, true, true],
    usage_in_stream: true,
  })
})

test('the model that huggingface_hub makes up is the base model', () => {
  expect(results['dummy_model']).toBe('dummy')
})

test('the stop text is not in the answer', () => {
  expect(results['stop']).toEqual([' 5, 6,', 'stop', ' 5, 6,'])
})

test('choices differ, and a seed replays all of them', () => {
  expect(results['n_and_seed']).toEqual({ differ: true, replays: true, another: true })
})

test('log-probabilities parse in both forms, and the greedy token is the likeliest', () => {
  expect(results['logprobs']).toEqual({ lengths: [true, true], top: true, greedy: true })
})

test('a token that is weighed down is not chosen; an echo begins with the prompt', () => {
  expect(results['logit_bias']).toBe(true)
  expect(results['echo']).toMatch(/^1, 2, 3, 4, 5/)
})

test('a named function is called with arguments that fit its schema, whole, streamed and through huggingface_hub', () => {
  const fitting = { city: expect.stringMatching(/^(Oslo|Rome)$/), celsius: expect.any(Boolean) }
  expect(results['tool_call']).toEqual({
    reason: 'tool_calls',
    content: null,
    name: 'weather',
    arguments: fitting,
    streamed: true,
    hub: ['weather', fitting],
  })
})

test('a function that is not offered raises UnprocessableEntityError', () => {
  expect(results['unknown_tool']).toEqual({
    raised: 'UnprocessableEntityError',
    status: 422,
    code: 'tool_error',
    text: expect.stringContaining('there is no tool "launch"'),
  })
})

test('embeddings are those of transformers and PEFT, whether as base64, as numbers or of tokens', () => {
  const answers = results['embeddings'] as { values: number[] }[]
  expect(answers).toEqual(embeddingCases.map(() => ({ values: expect.any(Array), same: [true, true], model: true, usage: true })))
  for (const [at, { embedding }] of embeddingCases.entries()) {
    expect(distance(answers[at]?.values ?? [], embedding)).toBeLessThan(EMBEDDING_TOLERANCE)
  }
})

test('a list of texts has the embeddings of each, in their order', () => {
  expect(results['embeddings_of_a_list']).toEqual({ indexes: [0, 1, 2, 3], near: true, total: expect.any(Number) })
})

test('an embeddings request that cannot be served raises with the name of what is to blame', () => {
  const refused = (text: string) => ({
    raised: 'UnprocessableEntityError',
    status: 422,
    code: 'invalid_parameters',
    text: expect.stringContaining(text),
  })
  expect(results['embeddings_refused']).toEqual([
    { raised: 'NotFoundError', status: 404, code: 'adapter_not_found', text: expect.stringContaining('does not exist') },
    refused('`dimensions` is not supported'),
    refused('`input[1]` must not be empty'),
    refused('`input[1]` must have at most 2047 tokens. Given: 3'),
    refused('`input` holds token 49152, but the model has only 49152 tokens'),
  ])
})

test('an unknown model raises NotFoundError, also for a stream', () => {
  const expected = {
    raised: 'NotFoundError',
    status: 404,
    code: 'adapter_not_found',
    text: expect.stringContaining('does not exist'),
  }
  expect([results['unknown_model'], results['unknown_model_stream']]).toEqual([expected, expected])
})

test('a bad parameter raises UnprocessableEntityError with the reason', () => {
  const expected = (text: string) => ({
    raised: 'UnprocessableEntityError',
    status: 422,
    code: 'invalid_parameters',
    text: expect.stringContaining(text),
  })
  expect(results['bad_parameter']).toEqual(expected('`temperature` must be non-negative'))
  expect(results['too_long']).toEqual(expected('must be <= 2048'))
})
