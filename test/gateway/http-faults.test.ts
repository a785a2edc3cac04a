/** faults.md H01–H08, H14, H18, H21 over real sockets. */

import { connect, type Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import { limits } from '@quiver/protocol'
import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'

let under: GatewayUnderTest
beforeAll(async () => {
  under = await startGateway()
})
afterAll(() => under.close())

const ok = JSON.stringify({ inputs: 'Hi' })

/** Sends bytes as they are; resolves with all that came back when the server has closed, or when `until` is met. */
function raw(
  write: (socket: Socket) => void,
  until: (received: string) => boolean = () => false,
  url = under.url,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => write(socket))
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk
      if (until(received)) socket.destroy()
    })
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EPIPE' || error.code === 'ECONNRESET' ? undefined : reject(error),
    )
    socket.on('close', () => resolve(received))
  })
}

const head = (lines: readonly string[], path = '/generate') =>
  `${[`POST ${path} HTTP/1.1`, 'host: x', 'content-type: application/json', ...lines].join('\r\n')}\r\n\r\n`

describe('bodies', () => {
  test.each([
    ['not JSON', Buffer.from('hello')],
    ['truncated', Buffer.from('{"inputs":"Hi')],
    ['empty', Buffer.alloc(0)],
    ['with a byte order mark', Buffer.from(`\ufeff${ok}`)],
    ['in UTF-16', Buffer.from(ok, 'utf16le')],
    ['broken UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22])],
    ['two values', Buffer.from(`${ok}${ok}`)],
  ])('H01: %s is 400 with a JSON body, and the connection goes on', async (_, bytes) => {
    const received = await raw(
      (socket) => {
        socket.write(head([`content-length: ${bytes.length}`]))
        socket.write(bytes)
        socket.write(`${head([`content-length: ${ok.length}`])}${ok}`)
      },
      (text) => text.includes('Hello world'),
    )
    expect(received).toMatch(/^HTTP\/1\.1 400 /)
    expect(received).toMatch(/\{"error":"Failed to parse.*","error_type":"invalid_request"\}/)
    expect(received).toContain('HTTP/1.1 200 ')
    expect(received).not.toMatch(/node:|\.ts|\/packages/)
  })

  test.each([undefined, 'text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-16', 'json'])(
    'content type %s is 415',
    async (type) => {
      const { statusCode, body } = await request(`${under.url}/generate`, {
        method: 'POST',
        headers: type === undefined ? {} : { 'content-type': type },
        body: ok,
      })
      expect([statusCode, await body.json()]).toEqual([
        415,
        { error: 'Expected request with `Content-Type: application/json` in UTF-8', error_type: 'unsupported_media_type' },
      ])
    },
  )

  test.each(['application/json', 'Application/JSON; charset=UTF-8', 'application/vnd.x+json'])(
    'content type %s is accepted',
    async (type) => {
      expect((await under.post('/generate', ok, { 'content-type': type })).status).toBe(200)
    },
  )

  test('H21: an encoded body is 415', async () => {
    const answer = await under.post('/generate', gzipSync(ok), { 'content-encoding': 'gzip' })
    expect([answer.status, answer.json]).toMatchObject([415, { error_type: 'unsupported_media_type' }])
  })

  test('H02: a declared length over the limit is 413 before any of it is read', async () => {
    const received = await raw((socket) => socket.write(head([`content-length: ${limits.requestBodyBytes + 1}`])))
    expect(received).toMatch(/^HTTP\/1\.1 413 /)
    expect(received).toContain('"error_type":"too_large"')
  })

  test('H02: a chunked body without end is 413, its connection is closed, the heap stays flat', async () => {
    const before = process.memoryUsage().arrayBuffers
    const block = 'x'.repeat(64 * 1024)
    let sent = 0
    const received = await raw((socket) => {
      socket.write(head(['transfer-encoding: chunked']))
      const flood = () => {
        while (!socket.destroyed) {
          sent += block.length
          if (!socket.write(`${block.length.toString(16)}\r\n${block}\r\n`)) return void socket.once('drain', flood)
          if (sent > 512 * 1024 * 1024) return void socket.destroy()
        }
      }
      flood()
    })
    expect(received).toMatch(/^HTTP\/1\.1 413 /)
    expect(sent).toBeLessThan(512 * 1024 * 1024)
    // What nobody holds is collected first: how much garbage lies about depends on the day.
    setFlagsFromString('--expose-gc')
    runInNewContext('gc')()
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024)
  })

  test('a body of exactly the limit is accepted', async () => {
    const frame = JSON.stringify({ inputs: '' }).length
    expect((await under.post('/generate', JSON.stringify({ inputs: 'x'.repeat(limits.requestBodyBytes - frame) }))).status).toBe(
      200,
    )
    expect(
      (await under.post('/generate', JSON.stringify({ inputs: 'x'.repeat(limits.requestBodyBytes - frame + 1) }))).status,
    ).toBe(413)
  })

  test('H03: a hundred thousand chunks of one byte do not become as many objects', async () => {
    const inputs = 'x'.repeat(100_000)
    const received = await raw(
      (socket) => {
        socket.write(head(['transfer-encoding: chunked']))
        socket.write(`${[...JSON.stringify({ inputs })].map((byte) => `1\r\n${byte}\r\n`).join('')}0\r\n\r\n`)
      },
      (text) => text.includes('Hello world'),
    )
    expect(received).toMatch(/^HTTP\/1\.1 200 /)
    expect(under.worker.requests.at(-1)?.prompt).toEqual({ kind: 'text', text: inputs })
  })

  test('H04: too many or too long headers are 431', async () => {
    const long = await raw((socket) => socket.write(head([`x-long: ${'a'.repeat(64 * 1024)}`])))
    const many = await raw((socket) => socket.write(head(Array.from({ length: 2000 }, (_, n) => `x-h${n}: ${'v'.repeat(10)}`))))
    for (const received of [long, many]) {
      expect(received).toMatch(/^HTTP\/1\.1 431 /)
      expect(received).toContain('"error_type":"invalid_request"')
    }
  })

  test.each([
    ['length and transfer encoding', `content-length: 5\r\ntransfer-encoding: chunked`],
    ['two lengths', `content-length: 5\r\ncontent-length: 6`],
    ['a bare carriage return', `x-a: b\rcontent-length: 5`],
  ])('H05: %s together are refused and the connection is closed', async (_, lines) => {
    const received = await raw((socket) => socket.write(`POST /generate HTTP/1.1\r\nhost: x\r\n${lines}\r\n\r\nhello`))
    expect(received).toMatch(/^HTTP\/1\.1 400 /)
    expect(received.match(/HTTP\/1\.1/g)).toHaveLength(1)
  })

  test.each([
    ['broken framing', `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n`, 400],
    ['too long headers', `POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-long: ${'a'.repeat(64 * 1024)}\r\n\r\n`, 431],
  ])('H05, H04: %s under /v1 are answered as OpenAI does, with a request id', async (_, bytes, status) => {
    const received = await raw((socket) => socket.write(bytes))
    expect(received).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [^]*\r\nx-request-id: id-\\d+\r\n`))
    expect(JSON.parse(received.slice(received.indexOf('\r\n\r\n')))).toEqual({
      error: { message: expect.any(String), type: 'invalid_request_error', code: 'invalid_request', param: null },
      error_type: 'invalid_request',
    })
  })

  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  const keys = (count: number) => Array.from({ length: count }, (_, n) => `"k${n}":1`).join(',')

  test.each([
    ['a hundred thousand levels', `{"inputs":"Hi","x":${nested(100_000)}}`, 'is nested deeper than 64 levels'],
    ['levels among the parameters', `{"inputs":"Hi","parameters":{"stop":${nested(63)}}}`, 'is nested deeper than 64 levels'],
    ['levels that are never closed', '['.repeat(2_000_000), 'is nested deeper than 64 levels'],
    ['150,000 keys', `{"inputs":"Hi","x":{${keys(150_000)}}}`, 'has more than 20000 values'],
    ['900,000 numbers', `{"inputs":"Hi","parameters":{"seed":18446744073709551615,"x":[${'0,'.repeat(900_000)}0]}}`, 'has more'],
  ])('H07: %s are 400 before they become objects', async (_, text, why) => {
    const answer = await under.post('/generate', text)
    expect([answer.status, answer.json]).toEqual([400, { error: expect.stringContaining(why), error_type: 'invalid_request' }])
  })

  test.each([
    ['levels', [nested(200_000)], 'is nested deeper than 64 levels'],
    ['keys', Array.from({ length: 10 }, () => `{${keys(3_000)}}`), 'has more than 20000 values'],
  ])('H07: the arguments of calls, JSON within JSON, may not have more %s than the body', async (_, texts, why) => {
    const tool_calls = texts.map((text) => ({ id: 'c', type: 'function', function: { name: 'f', arguments: text } }))
    const messages = [{ role: 'assistant', content: null, tool_calls }]
    const before = under.worker.requests.length
    const answer = await under.post('/v1/chat/completions', { messages })
    expect([answer.status, answer.json]).toMatchObject([400, { error: { message: expect.stringContaining(why) } }])
    expect(under.worker.requests).toHaveLength(before)
  })

  test('H07: what stands in a string is neither a value nor a level', async () => {
    const inputs = `,"\\[{${'[,'.repeat(50_000)}\\`
    expect((await under.post('/generate', { inputs, x: { deep: { deeper: [] } } })).status).toBe(200)
    expect(under.worker.requests.at(-1)?.prompt).toEqual({ kind: 'text', text: inputs })
    expect((await under.post('/generate', `{"inputs":"Hi","x":${nested(63)},"y":{${keys(19_000)}}}`)).status).toBe(200)
  })

  test('H07: prototype keys change nothing', async () => {
    const proto =
      '{"inputs":"Hi","__proto__":{"polluted":1},"parameters":{"__proto__":{"top_k":-1},"constructor":{"prototype":{"polluted":1}}}}'
    expect((await under.post('/generate', proto)).status).toBe(200)
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })

  test('H08: NUL, lone surrogates and a megabyte of one emoji reach the worker whole', async () => {
    const inputs = `\0${'🙂'.repeat(250_000)}`
    expect((await under.post('/generate', { inputs })).status).toBe(200)
    expect(under.worker.requests.at(-1)?.prompt).toEqual({ kind: 'text', text: inputs })
    expect((await under.post('/generate', '{"inputs":"a\\udc00b"}')).status).toBe(200)
    expect(under.worker.requests.at(-1)?.prompt).toEqual({ kind: 'text', text: 'a\ufffdb' })
  })
})

test.each([
  ['no host', 'GET /health HTTP/1.0\r\n', 'Missing host header'],
  ['a host that is none', 'GET /health HTTP/1.1\r\nhost: a b\r\n', 'Invalid'],
  ['a path that is none', 'GET *x HTTP/1.1\r\nhost: x\r\n', 'Invalid'],
])('a request with %s is 400 with a JSON body', async (_, text, why) => {
  const received = await raw((socket) => socket.write(`${text}connection: close\r\n\r\n`))
  expect(received).toMatch(/^HTTP\/1\.[01] 400 /)
  expect(received).toMatch(new RegExp(`\\{"error":"[^"]*${why}[^"]*","error_type":"invalid_request"\\}`))
})

describe('H06: slow clients', () => {
  test.each([
    ['headers', 'POST /generate HTTP/1.1\r\nhost: x\r\n'],
    ['body', `${head(['content-length: 100'])}{"inputs":`],
  ])('a %s that does not come in time is 408, and others are served meanwhile', async (_, bytes) => {
    const hurried = await startGateway({ readTimes: { headersMs: 100, requestMs: 200, checkMs: 50 } })
    const slow = raw((socket) => socket.write(bytes), undefined, hurried.url)
    expect((await hurried.post('/generate', ok)).status).toBe(200)
    const received = await slow
    expect(received).toMatch(/^HTTP\/1\.1 408 /)
    await hurried.close()
  })

  test('H06: a slow body under /v1 is answered as OpenAI does', async () => {
    const hurried = await startGateway({ readTimes: { headersMs: 100, requestMs: 200, checkMs: 50 } })
    const bytes = `${head(['content-length: 100'], '/v1/completions')}{"prompt":`
    const received = await raw((socket) => socket.write(bytes), undefined, hurried.url)
    expect(received).toMatch(/^HTTP\/1\.1 408 [\s\S]*"type":"invalid_request_error"/)
    await hurried.close()
  })
})

describe('H14: routes and methods', () => {
  test.each([
    ['GET', '/nowhere', 404, undefined],
    ['POST', '/nowhere', 404, undefined],
    ['POST', '/generate/', 404, undefined],
    ['GET', '/__proto__', 404, undefined],
    ['GET', '/generate', 405, 'POST'],
    ['PUT', '/generate_stream', 405, 'POST'],
    ['DELETE', '/', 405, 'GET, HEAD, POST'],
    ['GET', '/embed', 405, 'POST'],
    ['POST', '/docs', 405, 'GET, HEAD'],
    // Who may not administer is not told what there is.
    ['DELETE', '/admin/adapters', 404, undefined],
    ['PUT', '/load_lora_adapter', 404, undefined],
    ['POST', '/health', 405, 'GET, HEAD'],
    ['POST', '/info', 405, 'GET, HEAD'],
  ] as const)('%s %s is %d as JSON', async (method, path, status, allow) => {
    const { statusCode, headers, body } = await request(under.url + path, { method })
    expect([statusCode, headers['allow']]).toEqual([status, allow])
    expect(await body.json()).toEqual({
      error: expect.any(String),
      error_type: status === 404 ? 'not_found' : 'method_not_allowed',
    })
  })

  test.each(['/', '/health', '/ping'])('GET and HEAD %s are 200 and empty', async (path) => {
    for (const method of ['GET', 'HEAD'] as const) {
      const { statusCode, body } = await request(under.url + path, { method })
      expect([statusCode, await body.text()]).toEqual([200, ''])
    }
  })

  test('OPTIONS lets any origin send JSON', async () => {
    const { statusCode, headers } = await request(`${under.url}/generate`, {
      method: 'OPTIONS',
      headers: { origin: 'https://example.org', 'access-control-request-method': 'POST' },
    })
    expect([statusCode, headers['access-control-allow-origin'], headers['access-control-allow-headers']]).toEqual([
      204,
      '*',
      'content-type,authorization,x-api-key,x-priority',
    ])
  })

  test('H18: what a client says it accepts does not change the form of the answer', async () => {
    const stream = await under.post('/generate_stream', ok, { accept: 'application/json' })
    expect(stream.headers['content-type']).toBe('text/event-stream')
    const whole = await under.post('/generate', ok, { accept: 'text/event-stream' })
    expect(whole.headers['content-type']).toBe('application/json')
  })

  test('/info says what is served', async () => {
    const { body } = await request(`${under.url}/info`)
    expect(await body.json()).toMatchObject({
      model_id: 'smollm2-135m-instruct',
      model_dtype: 'int8',
      model_device_type: 'cpu',
      model_pipeline_tag: 'text-generation',
      max_best_of: 2,
      max_concurrent_requests: 8,
      max_input_length: 2047,
      max_total_tokens: 2048,
      max_stop_sequences: 16,
      version: '9.9.9',
    })
  })

  test('/health is 503 when the worker is not well', async () => {
    under.worker.isHealthy = false
    const { statusCode, body } = await request(`${under.url}/health`)
    under.worker.isHealthy = true
    expect([statusCode, await body.json()]).toEqual([503, { error: 'unhealthy', error_type: 'healthcheck' }])
  })
})
