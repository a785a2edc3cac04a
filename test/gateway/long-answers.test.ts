/** Answers that list much: how much they may, and that nobody waits while they are made. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { limits, type RunEvent } from '@quiver/protocol'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { jsonBody, LongList, longList } from '../../packages/gateway/src/routes/json-answer.ts'
import { type GatewayUnderTest, smallCatalogue, sqlDigest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, type Script, scriptedInfo } from '../support/scripted-worker.ts'

const alternatives = Array.from({ length: 20 }, (_, id) => ({ id, text: `t${id}`, logprob: -1 - id, special: false }))

const answers =
  (count: number): Script =>
  (run) => {
    const tokens = Array.from({ length: count }, (_, at): RunEvent => {
      return { type: 'token', id: 1, text: 'a', logprob: -0.5, special: false, last: at === count - 1, alternatives }
    })
    run.send(accepted, ...tokens, done('a'.repeat(count), { generatedTokens: count }))
    run.end()
  }

describe('an answer that is not streamed', () => {
  let under: GatewayUnderTest
  beforeEach(async () => {
    under = await startGateway()
  })
  afterEach(() => under.close())

  const chat = { messages: [{ role: 'user', content: 'Hi' }], logprobs: true, top_logprobs: 20 }
  const sampled = { do_sample: true, details: true, top_n_tokens: 32, return_k_alternatives: 32 }

  test.each([
    [
      '/v1/chat/completions',
      { ...chat, n: 16, max_tokens: 2000 },
      '`max_tokens` * (1 + `top_logprobs`) * `n`',
      '2000 * (1 + 20) * 16',
    ],
    ['/v1/chat/completions', { ...chat, n: 16 }, '`max_tokens` * (1 + `top_logprobs`) * `n`', '2048 * (1 + 20) * 16'],
    [
      '/generate',
      { inputs: 'a', parameters: { ...sampled, best_of: 2, max_new_tokens: 2000 } },
      '`max_new_tokens` * (1 + `top_n_tokens`) * `best_of`',
      '2000 * (1 + 64) * 2',
    ],
  ])('%s %j may not list more than its share, and the refusal names the fields', async (path, body, fields, given) => {
    const { status, text } = await under.post(path, body)
    expect(status).toBe(422)
    expect(text).toContain(`${fields} must be <= ${limits.answerTokens} where the answer is not streamed. Given: ${given}`)
    expect(under.worker.requests).toEqual([])
  })

  test.each([
    ['/v1/chat/completions', { ...chat, max_tokens: 2000 }],
    ['/v1/chat/completions', { ...chat, n: 2, max_tokens: 2000, stream: true }],
    ['/v1/chat/completions', { messages: chat.messages, n: 3, max_tokens: 2000 }],
    ['/generate', { inputs: 'a', parameters: { ...sampled, max_new_tokens: 2000 } }],
  ])('%s %j is answered', async (path, body) => {
    expect((await under.post(path, body)).status).toBe(200)
  })

  test('lists every token of a long text with all its alternatives, on either route', async () => {
    under.worker.script = answers(100)
    const { json, headers } = await under.post('/v1/chat/completions', { ...chat, n: 2, max_tokens: 100 })
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'x-generated-tokens': '100' })
    const logprobs = {
      refusal: null,
      content: Array.from({ length: 100 }, () => ({
        token: 'a',
        logprob: -0.5,
        bytes: [97],
        top_logprobs: alternatives.map(({ text, logprob }) => ({ token: text, logprob, bytes: [...Buffer.from(text)] })),
      })),
    }
    expect(json).toMatchObject({ choices: [{ logprobs }, { logprobs }], usage: { completion_tokens: 200 } })
    const { details } = (await under.post('/generate', { inputs: 'a', parameters: { details: true, top_n_tokens: 20 } }))
      .json as {
      details: object
    }
    expect(details).toMatchObject({ tokens: Array(100).fill({ id: 1, text: 'a' }), top_tokens: Array(100).fill(alternatives) })
  })
})

describe('the limit', () => {
  test('lets one choice of 4,096 tokens with twenty alternatives pass, and as many as any one of this model', () => {
    expect(4096 * 21).toBeLessThanOrEqual(limits.answerTokens)
    expect(scriptedInfo.limits.totalTokens * (1 + limits.alternativeTokens)).toBeLessThanOrEqual(limits.answerTokens)
  })
})

test('GET /v1/models lists ten thousand adapters in order, the base model first, and HEAD answers without them', async () => {
  const names = Array.from({ length: 10_000 }, (_, at) => `adapter-${String(at).padStart(5, '0')}`)
  const view = smallCatalogue.visibleTo()
  const latest = () => view.latest('text-to-sql')
  const under = await startGateway({}, { catalogue: { visibleTo: () => ({ ...view, names: () => names, latest }) } })
  onTestFinished(() => under.close())
  const response = await fetch(`${under.url}/v1/models`)
  expect(response.headers.get('content-type')).toBe('application/json')
  const { object, data } = (await response.json()) as { object: string; data: { id: string }[] }
  expect([object, data.map(({ id }) => id)]).toEqual(['list', ['smollm2-135m-instruct', ...names]])
  expect(data[1]).toMatchObject({ root: `adapter-00000@sha256:${sqlDigest}`, parent: 'smollm2-135m-instruct' })
  const head = await fetch(`${under.url}/v1/models`, { method: 'HEAD' })
  expect([head.status, await head.text()]).toEqual([200, ''])
})

describe('JSON in pieces', () => {
  const read = async (body: string | ReadableStream<Uint8Array>) => await new Response(body).text()

  test('is what JSON.stringify writes', async () => {
    const { rawJSON } = JSON as unknown as { rawJSON(text: string): object }
    const value = {
      none: undefined,
      seed: rawJSON('18446744073709551615'),
      list: [undefined, 1, [], {}, { a: undefined }, [null, { b: ['"\u2028é'] }]],
      long: longList([1, 2], (item) => ({ item, none: undefined })),
      empty: new LongList(() => []),
      date: new Date(0),
      text: 'x'.repeat(100_000),
      many: longList([...Array(30_000).keys()], (item) => `item ${item}`),
    }
    expect(await read(await jsonBody(value))).toBe(JSON.stringify(value))
    for (const short of [null, 1, 'a', [], {}, [{ a: [1] }]]) expect(await jsonBody(short)).toBe(JSON.stringify(short))
  })

  test('is made as it is read, with turns of the event loop between', async () => {
    let made = 0
    const make = () => {
      made += 1
      return 'x'.repeat(100)
    }
    const body = await jsonBody(longList(Array(10_000).fill(0), make))
    expect(made).toBeLessThan(2000)
    let turns = 0
    let isRead = false
    const counting = (async () => {
      for (; !isRead; turns++) await nextTurn()
    })()
    expect(await read(body)).toHaveLength(10_000 * 103 + 1)
    isRead = true
    await counting
    expect([made, turns >= 10]).toEqual([10_000, true])
  })
})
