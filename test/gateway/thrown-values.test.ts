/** faults.md H20: a bug may throw anything, anywhere in a handler. */
import { afterEach, describe, expect, test } from 'vitest'
import { type GatewayUnderTest, smallCatalogue, startGateway } from '../support/gateway-under-test.ts'

const cyclic: Record<string, unknown> = { secret: 'do not tell' }
cyclic['self'] = cyclic
const thrown: readonly (readonly [string, unknown])[] = [
  ['a string', 'do not tell'],
  ['null', null],
  ['undefined', undefined],
  ['a cyclic object', cyclic],
  ['an object without a prototype', Object.create(null)],
  ['a function', () => 'do not tell'],
  ['an Error', new Error('do not tell, at /srv/secret.ts')],
]

let under: GatewayUnderTest
afterEach(() => under.close())

const sampling = { do_sample: true }
const routes: readonly (readonly [path: string, body: object | undefined])[] = [
  ['/generate', { inputs: 'Hi', parameters: sampling }],
  ['/', { inputs: 'Hi', parameters: { ...sampling, best_of: 2 } }],
  ['/v1/completions', { prompt: 'Hi' }],
  ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }] }],
  ['/v1/embeddings', { input: 'Hi', model: 'text-to-sql' }],
  ['/embed', { inputs: 'Hi', parameters: { adapter_id: 'text-to-sql' } }],
  ['/v1/models', undefined],
]

describe.each(thrown)('H20: a handler that throws %s', (_, value) => {
  const fail = (): never => {
    throw value
  }
  const start = async () => {
    under = await startGateway(
      {},
      { drawSeed: fail, catalogue: { visibleTo: () => ({ ...smallCatalogue.visibleTo(), resolve: fail, names: fail }) } },
    )
  }

  test.each(routes)('answers %s with 500, the id and nothing of what was thrown, and goes on', async (path, body) => {
    await start()
    const response = await fetch(under.url + path, {
      headers: { 'content-type': 'application/json', 'x-request-id': 'mine' },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    })
    const text = await response.text()
    expect([response.status, response.headers.get('x-request-id')]).toEqual([500, 'mine'])
    expect(JSON.parse(text)).toMatchObject({ error_type: 'internal' })
    expect(text).not.toMatch(/do not tell|secret|\.ts/)
    expect(under.log.filter(({ level }) => level === 'error')).toHaveLength(1)
    expect((await under.post('/generate', { inputs: 'Hi' })).status).toBe(200)
  })

  test('ends a stream with one event of that kind', async () => {
    await start()
    const { status, text } = await under.post('/generate_stream', { inputs: 'Hi', parameters: sampling })
    expect([status, text]).toEqual([200, 'data:{"error":"internal error","error_type":"internal"}\n\n'])
  })
})
