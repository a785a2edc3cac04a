/** `POST /v1/embeddings` in front of a scripted worker. */
import { limits, type RunEvent } from '@quiver/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { type GatewayUnderTest, sqlDigest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, type Script, type ScriptedRun } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
afterEach(() => under.close())

const PATH = '/v1/embeddings'
const base = 'smollm2-135m-instruct'

const bytesOf = (values: readonly number[]): string => Buffer.from(Float32Array.from(values).buffer).toString('base64')
const embedding = (values: readonly number[]): RunEvent => ({ type: 'embedding', values: bytesOf(values) })
/** What a text is embedded as here: its length, and a number that needs all digits of float32. */
const valuesOf = ({ request: { prompt } }: ScriptedRun): number[] => [
  prompt.kind === 'text' ? prompt.text.length : prompt.kind === 'tokens' ? prompt.ids.length : Number.NaN,
  Math.fround(0.1),
]
const embeds: Script = (run) => {
  const values = valuesOf(run)
  run.send(
    { ...accepted, adapterDigest: 'c'.repeat(64) } as RunEvent,
    embedding(values),
    done('', { generatedTokens: 0, finishReason: 'length', promptTokens: values[0] ?? 0 }),
  )
  run.end()
}

async function start(...how: Parameters<typeof startGateway>): Promise<void> {
  under = await startGateway(...how)
  under.worker.script = embeds
}

const dataOf = (json: unknown) => (json as { data: { index: number; embedding: unknown }[] }).data

describe('an embeddings answer', () => {
  test('is exactly what OpenAI documents, with the headers of every answer', async () => {
    await start()
    const { status, json, headers } = await under.post(
      PATH,
      { model: '', input: 'Hello', user: 'me' },
      { 'x-request-id': 'mine' },
    )
    expect(status).toBe(200)
    expect(json).toEqual({
      object: 'list',
      data: [{ object: 'embedding', index: 0, embedding: [5, Math.fround(0.1)] }],
      model: base,
      usage: { prompt_tokens: 5, total_tokens: 5 },
    })
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      ...{ 'x-request-id': 'mine', 'x-model-id': base, 'x-prompt-tokens': '5', 'x-generated-tokens': '0', 'x-total-tokens': '5' },
      ...{ 'x-compute-characters': '5', 'x-queue-time': '1', 'x-inference-time': '20' },
    })
    expect(under.worker.requests[0]).toMatchObject({
      goal: 'embedding',
      prompt: { kind: 'text', text: 'Hello' },
      adapter: { kind: 'base' },
    })
  })

  test('has base64 of the very float32 bytes where that is asked for', async () => {
    await start()
    const { json } = await under.post(PATH, { input: 'Hello', encoding_format: 'base64' })
    expect(dataOf(json)).toEqual([{ object: 'embedding', index: 0, embedding: bytesOf([5, 0.1]) }])
  })

  test.each([
    ['a text', 'Hi', [2]],
    ['texts', ['a', 'bbb', 'cc'], [1, 3, 2]],
    ['the tokens of one text', [7, 8, 9], [3]],
    ['tokens of several', [[1, 2], [3], [4, 5, 6]], [2, 1, 3]],
  ])('takes %s and answers in their order', async (_, input, expected) => {
    await start()
    const { json } = await under.post(PATH, { input })
    expect(dataOf(json)).toEqual(
      expected.map((first, index) => ({ object: 'embedding', index, embedding: [first, Math.fround(0.1)] })),
    )
    expect(json).toMatchObject({ usage: { prompt_tokens: expected.reduce((sum, one) => sum + one, 0) } })
  })

  test('names the adapter that it was computed with, a registered one and a folder', async () => {
    await start()
    const registered = await under.post(PATH, { model: 'text-to-sql', input: ['a', 'b'] })
    expect(registered.json).toMatchObject({ model: 'text-to-sql' })
    expect(registered.headers).toMatchObject({
      'x-adapter-id': 'text-to-sql',
      'x-adapter-source': 'store',
      'x-adapter-digest': sqlDigest,
    })
    expect(under.worker.requests.map(({ adapter }) => adapter)).toMatchObject(
      Array(2).fill({ kind: 'registered', digest: sqlDigest }),
    )
    const local = await under.post(PATH, { model: 'some/folder', adapter_source: 'local', input: 'a' })
    expect(local.headers).toMatchObject({ 'x-adapter-source': 'local', 'x-adapter-digest': 'c'.repeat(64) })
  })

  test('keeps the order when later texts are ready first, and computes few at once', async () => {
    await start()
    let running = 0
    let most = 0
    under.worker.script = (run) => {
      most = Math.max(most, ++running)
      const turns = 1 + ((valuesOf(run)[0] ?? 0) % 3)
      const later = (left: number) => {
        if (left > 0) return setImmediate(() => later(left - 1))
        running--
        embeds(run)
      }
      later(turns * 5)
    }
    const input = Array.from({ length: 23 }, (_, at) => 'x'.repeat(at + 1))
    const { json } = await under.post(PATH, { input })
    expect(dataOf(json).map(({ embedding }) => (embedding as number[])[0])).toEqual(input.map(({ length }) => length))
    expect(most).toBeGreaterThan(1)
    expect(most).toBeLessThanOrEqual(limits.embeddingLanes)
  })

  test('of 2,048 texts is given whole', async () => {
    await start()
    const { status, json } = await under.post(PATH, { input: Array(limits.embeddingInputs).fill('abc') })
    expect(status).toBe(200)
    expect(dataOf(json).map(({ index }) => index)).toEqual([...Array(limits.embeddingInputs).keys()])
  })
})

describe('an embeddings request is refused', () => {
  const shape = '`input` must be a text, a list of texts, a list of token ids or a list of such lists, none of them empty'
  const empty = (name: string) => `\`${name}\` must not be empty`
  test.each([
    ['without an input', {}, shape],
    ['with null', { input: null }, shape],
    ['with an empty text', { input: '' }, empty('input')],
    ['with an empty list', { input: [] }, shape],
    ['with an empty text among others', { input: ['a', ''] }, empty('input[1]')],
    ['with an empty list of tokens', { input: [[1], []] }, empty('input[1]')],
    ['with texts and tokens mixed', { input: ['a', 1] }, '`input[1]` must be a string'],
    ['with a token below 0', { input: [-1] }, '`input[0]` must be a token id'],
    ['with a token that is no whole number', { input: [[0.5]] }, '`input[0][0]` must be a token id'],
    ['with tokens and a text mixed', { input: [1, 'a'] }, '`input[1]` must be a token id'],
    ['with lists and a token mixed', { input: [[1], 2] }, '`input[1]` must be a list of token ids'],
    ['with more texts than are allowed', { input: Array(2049).fill('a') }, '`input` must have at most 2048 texts. Given: 2049'],
    ['with dimensions', { input: 'a', dimensions: 256 }, '`dimensions` is not supported by this server'],
    ['with another encoding', { input: 'a', encoding_format: 'int8' }, '`encoding_format` must be `float` or `base64`'],
    ['with a user that is no text', { input: 'a', user: 1 }, '`user` must be a string'],
  ])('%s', async (_, body, message) => {
    await start()
    const { status, json } = await under.post(PATH, { model: '', ...body })
    expect(status).toBe(422)
    expect(json).toMatchObject({
      error: {
        message: expect.stringContaining(message),
        type: 'invalid_request_error',
        code: 'invalid_parameters',
        param: message.split('`')[1],
      },
      error_type: 'validation',
    })
    expect(under.worker.requests).toEqual([])
  })

  test('for a model that does not exist, with 404', async () => {
    await start()
    const { status, json } = await under.post(PATH, { model: 'nobody', input: 'a' })
    expect(status).toBe(404)
    expect(json).toMatchObject({ error: { code: 'adapter_not_found', param: 'model' } })
  })

  test('by the worker, for the text that is to blame, which is named; the others are called off', async () => {
    await start()
    const called = Promise.withResolvers<void>()
    under.worker.script = (run) => {
      run.send(accepted)
      if (valuesOf(run)[0] !== 3) {
        void run.left.then(called.resolve)
        return
      }
      run.send({ type: 'error', code: 'invalid_parameters', message: '`input` must have at most 2 tokens. Given: 3' })
      run.end()
    }
    const { status, json } = await under.post(PATH, { input: ['a', 'bbb'] })
    expect(status).toBe(422)
    expect(json).toMatchObject({ error: { message: '`input[1]` must have at most 2 tokens. Given: 3', param: 'input[1]' } })
    await called.promise
    const one = await under.post(PATH, { input: 'bbb' })
    expect(one.json).toMatchObject({ error: { message: '`input` must have at most 2 tokens. Given: 3', param: 'input' } })
  })

  test('when the house is full, with 429; a request of many texts needs but one place', async () => {
    await start({ clientLimits: { concurrentRequests: 1, bestOf: 2, stopSequences: 16, adapterSource: 'store' } })
    const many = await under.post(PATH, { input: Array(9).fill('a') })
    expect(many.status).toBe(200)
    const begun = Promise.withResolvers<ScriptedRun>()
    under.worker.script = begun.resolve
    const first = under.post(PATH, { input: ['a', 'b'] })
    const held = await begun.promise
    const second = await under.post(PATH, { input: 'a' })
    expect(second.status).toBe(429)
    expect(second.headers['retry-after']).toBeDefined()
    under.worker.script = embeds
    embeds(held)
    expect((await first).status).toBe(200)
    expect((await under.post(PATH, { input: 'a' })).status).toBe(200)
  })

  test('when its deadline passes, with 504', async () => {
    await start({ times: { deadlineMs: 0, keepAliveMs: 15_000, slowReaderMs: 60_000 } })
    under.worker.script = (run) => {
      run.send(accepted, { type: 'error', code: 'deadline_exceeded', message: 'the deadline passed' })
      run.end()
    }
    const { status, json } = await under.post(PATH, { input: 'a' })
    expect(status).toBe(504)
    expect(json).toMatchObject({ error: { code: 'deadline_exceeded' } })
  })
})

test('an embedding whose worker is lost is computed once more', async () => {
  await start()
  let attempts = 0
  under.worker.script = (run) => {
    if (++attempts > 1) return embeds(run)
    run.send(accepted)
    run.cut()
  }
  const { status, json } = await under.post(PATH, { input: 'Hello' })
  expect([status, attempts]).toEqual([200, 2])
  expect(dataOf(json)).toHaveLength(1)
})

test('a worker that ends without an embedding is not believed', async () => {
  await start()
  under.worker.script = (run) => {
    run.send(accepted, done(''))
    run.end()
  }
  expect((await under.post(PATH, { input: 'Hello' })).json).toMatchObject({ error: { code: 'worker_lost' } })
})

test('a client that leaves ends every run of its request', async () => {
  await start()
  const left: Promise<void>[] = []
  const allBegun = Promise.withResolvers<void>()
  under.worker.script = (run) => {
    left.push(run.left)
    run.send(accepted)
    if (left.length === limits.embeddingLanes) allBegun.resolve()
  }
  const client = new AbortController()
  const asked = fetch(under.url + PATH, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input: Array(10).fill('a') }),
    signal: client.signal,
  }).catch((error: unknown) => error)
  await allBegun.promise
  client.abort()
  await asked
  await Promise.all(left)
  expect(under.worker.requests).toHaveLength(limits.embeddingLanes)
})
