/** Streams of both families between a run that says nothing for long and a client that takes nothing for long. */
import { connect } from 'node:net'
import { systemClock } from '@quiver/gateway'
import { request } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, type ScriptedRun, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
afterEach(() => under.close())

const messages = [{ role: 'user', content: 'Hi' }]
const routes = [
  ['/generate_stream', { inputs: 'Hi' }],
  ['/generate_stream', { inputs: 'Hi', parameters: { adapter_id: 'text-to-sql' } }],
  // Its headers wait for a digest that only the worker can say, but not for ever.
  ['/generate_stream', { inputs: 'Hi', parameters: { adapter_id: 'org/adapter', adapter_source: 'hub' } }],
  ['/', { inputs: 'Hi', stream: true }],
  ['/v1/completions', { prompt: 'Hi', model: 'text-to-sql', stream: true }],
  ['/v1/chat/completions', { messages, stream: true }],
] as const

/** Starts a gateway for which a second lasts 20 ms. @returns the next run that its worker gets, which answers nothing by itself */
async function hastened(): Promise<{ readonly run: Promise<ScriptedRun> }> {
  const real = systemClock()
  const clock = { nowMs: () => real.nowMs() * 50, after: (delayMs: number, run: () => void) => real.after(delayMs / 50, run) }
  under = await startGateway({}, { clock })
  const { promise, resolve } = Promise.withResolvers<ScriptedRun>()
  under.worker.script = resolve
  return { run: promise }
}

describe.each(routes)('a stream of %s for %j', (path, body) => {
  test.each([
    ['whose run waits in a queue or for its adapter', true],
    ['whose worker says nothing at all', false],
  ])('%s is kept open by comments, which come before its first event', async (_, isAccepted) => {
    const { run: begun } = await hastened()
    const answer = request(under.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const run = await begun
    if (isAccepted) run.send(accepted)
    const { statusCode, headers, body: stream } = await answer
    expect([statusCode, headers['content-type']]).toEqual([200, 'text/event-stream'])
    let text = ''
    let isTold = false
    for await (const chunk of stream) {
      text += chunk
      if (isTold || text.split(':\n\n').length < 4) continue
      isTold = true
      run.send(...(isAccepted ? [] : [accepted]), token('Hello', true), done('Hello'))
      run.end()
    }
    // A chat opens with its role as soon as it is accepted.
    const opening = path === '/v1/chat/completions' && isAccepted ? 'data: [^\n]*"role":"assistant"[^\n]*\n\n' : ''
    expect(text).toMatch(new RegExp(`^${opening}(:\n\n){3,}data:`))
    expect(text).toContain('Hello')
    expect(text.includes('[DONE]')).toBe(path.startsWith('/v1/'))
  })
})

/** Far longer than a token is, so that a few fill what there is to fill. */
const TOKEN_CHARACTERS = 128 * 1024
const floods = [
  ['/generate_stream', { inputs: 'Hi' }],
  ['/v1/completions', { prompt: 'Hi', stream: true }],
  ['/v1/chat/completions', { messages, stream: true }],
] as const

test.each(floods)(
  'a stream of %s that is not read holds up its own run at a bound, and is whole when it is read',
  async (path, body) => {
    under = await startGateway()
    const { promise, resolve } = Promise.withResolvers<ScriptedRun>()
    under.worker.script = resolve
    const text = JSON.stringify(body)
    const socket = connect(Number(new URL(under.url).port), '127.0.0.1')
    socket.pause()
    const head = [`POST ${path} HTTP/1.1`, 'host: x', 'content-type: application/json', `content-length: ${text.length}`]
    socket.write(`${head.join('\r\n')}\r\nconnection: close\r\n\r\n${text}`)
    const run = await promise
    run.send(accepted)
    let sent = 0
    /** Whether the gateway takes no more, though others are served meanwhile. */
    const isHeldUp = async () => {
      for (let asked = 0; asked < 20 && run.isFull(); asked++) expect((await request(`${under.url}/info`)).statusCode).toBe(200)
      return run.isFull()
    }
    while (!(await isHeldUp())) {
      run.send(token('~'.repeat(TOKEN_CHARACTERS)))
      sent += TOKEN_CHARACTERS
      // Buffers of the two connections and of the stream between them: some megabytes, whatever the run has to say.
      expect(sent).toBeLessThan(64 * 1024 * 1024)
    }
    run.send(token('!', true), done('end'))
    run.end()
    let received = 0
    for await (const chunk of socket.resume()) received += String(chunk).split('~').length - 1
    expect(received).toBe(sent)
  },
)
