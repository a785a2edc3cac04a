/** What happens when a client, the worker or the server itself goes away, and to those who are slow. */
import { connect } from 'node:net'
import { request } from 'undici'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventsOf, type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { accepted, done, helloWorld, type Script, type ScriptedRun, ScriptedWorker, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
beforeEach(async () => {
  under = await startGateway()
})
afterEach(() => under.close())

/** A script that gives its run out and answers nothing by itself. */
function heldRuns(): { script: Script; next: () => Promise<ScriptedRun> } {
  const arrived: ScriptedRun[] = []
  const waiting: ((run: ScriptedRun) => void)[] = []
  return {
    script: (run) => {
      const take = waiting.shift()
      if (take === undefined) arrived.push(run)
      else take(run)
    },
    next: () =>
      new Promise((resolve) => (arrived[0] === undefined ? waiting.push(resolve) : resolve(arrived.shift() as ScriptedRun))),
  }
}

/** A client on a bare socket. */
function client(body: object, path = '/generate_stream', url = under.url) {
  const text = JSON.stringify(body)
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
  )
  return socket
}

describe('a client that leaves', () => {
  test.each([
    ['before anything came, whole', '/generate', []],
    ['before anything came, streamed', '/generate_stream', []],
    ['while queued', '/generate_stream', [accepted]],
    ['in the middle of a stream', '/generate_stream', [accepted, token('Hello')]],
    ['in the middle of a whole answer', '/generate', [accepted, token('Hello')]],
  ])('%s ends its run at the worker at once', async (_, path, events) => {
    const held = heldRuns()
    under.worker.script = held.script
    const socket = client({ inputs: 'Hi' }, path)
    const run = await held.next()
    run.send(...events)
    if (path === '/generate_stream') await new Promise((resolve) => socket.once('data', resolve))
    socket.destroy()
    await run.left
    under.worker.script = helloWorld
    expect((await under.post('/generate', { inputs: 'Hi' })).status).toBe(200)
  })

  test('gives its place back: more may come than there are places, as long as they leave', async () => {
    const held = heldRuns()
    under.worker.script = held.script
    for (let round = 0; round < 12; round++) {
      const socket = client({ inputs: 'Hi' })
      const run = await held.next()
      run.send(accepted, token('Hello'))
      await new Promise((resolve) => socket.once('data', resolve))
      socket.destroy()
      await run.left
    }
    under.worker.script = helloWorld
    expect((await under.post('/generate', { inputs: 'Hi' })).status).toBe(200)
  })
})

describe('too many requests at once', () => {
  test('the one beyond the limit is 429 at once with Retry-After, and a place that comes free is used', async () => {
    const held = heldRuns()
    under.worker.script = held.script
    const places = 8
    const running = Array.from({ length: places }, () => under.post('/generate', { inputs: 'Hi' }))
    const runs = await Promise.all(Array.from({ length: places }, () => held.next()))
    const refused = await under.post('/generate', { inputs: 'Hi' })
    expect([refused.status, refused.headers['retry-after'], refused.json]).toEqual([
      429,
      '1',
      { error: 'Model is overloaded', error_type: 'overloaded' },
    ])
    // best_of is looked at before, temperature after the place is taken.
    expect((await under.post('/generate', { inputs: 'Hi', parameters: { best_of: 3 } })).status).toBe(422)
    expect((await under.post('/generate', { inputs: 'Hi', parameters: { temperature: -1 } })).status).toBe(429)
    for (const run of runs) helloWorld(run)
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual(Array(places).fill(200))
    under.worker.script = helloWorld
    expect((await under.post('/generate', { inputs: 'Hi' })).status).toBe(200)
  })
})

describe('a worker that goes away', () => {
  test('before the first token: the request is run once more on the next worker, with the same seed', async () => {
    const next = await ScriptedWorker.start()
    under.worker.script = (run) => {
      run.send(accepted)
      under.worker.isHealthy = false
      run.cut()
    }
    const answer = under.post('/generate', { inputs: 'Hi', parameters: { do_sample: true, details: true } })
    under.pool.remove(under.worker.url)
    await under.pool.add(next, 5000)
    expect((await answer).json).toMatchObject({ generated_text: 'Hello world', details: { seed: 42 } })
    expect(next.requests[0]?.sampling.seed).toBe('42')
    await next.close()
  })

  test('and is back at the same place: the request is run once more there', async () => {
    let runs = 0
    under.worker.script = (run) => (runs++ === 0 ? run.cut() : helloWorld(run))
    expect((await under.post('/generate', { inputs: 'Hi' })).json).toEqual({ generated_text: 'Hello world' })
    expect(new Set(under.worker.requests.map(({ requestId }) => requestId)).size).toBe(2)
  })

  test('twice: the request fails, and is not run a third time', async () => {
    under.worker.script = (run) => run.cut()
    const answer = await under.post('/generate', { inputs: 'Hi' })
    expect([answer.status, answer.json]).toMatchObject([500, { error_type: 'incomplete_generation' }])
    expect(under.worker.requests).toHaveLength(2)
  })

  test('after the first token: nothing is run again', async () => {
    under.worker.script = (run) => {
      run.send(accepted, token('Hello'))
      setTimeout(run.cut, 20)
    }
    expect((await under.post('/generate', { inputs: 'Hi' })).status).toBe(500)
    expect(under.worker.requests).toHaveLength(1)
  })

  test('for longer than a request waits: 503 with Retry-After, health says no', async () => {
    const impatient = await startGateway({ patienceMs: 50 })
    impatient.pool.remove(impatient.worker.url)
    const answer = await impatient.post('/generate', { inputs: 'Hi' })
    expect([answer.status, answer.headers['retry-after'], answer.json]).toMatchObject([503, '2', { error_type: 'overloaded' }])
    expect((await request(`${impatient.url}/health`)).statusCode).toBe(503)
    await impatient.close()
  })

  test('for a moment: who comes meanwhile waits and is served', async () => {
    under.pool.remove(under.worker.url)
    const answer = under.post('/generate', { inputs: 'Hi' })
    setTimeout(() => under.pool.add(under.worker, 5000), 50)
    expect((await answer).status).toBe(200)
  })
})

describe('time', () => {
  test('an unused connection is kept for longer than load balancers keep it', async () => {
    const { headers } = await under.post('/generate', { inputs: 'Hi' })
    expect(headers['keep-alive']).toBe('timeout=75')
  })

  test('a silent stream is kept open by comments', async () => {
    const quiet = await startGateway({ times: { keepAliveMs: 20 } })
    quiet.worker.script = (run) => {
      run.send(accepted)
      setTimeout(() => helloWorld(run), 110)
    }
    const { text } = await quiet.post('/generate_stream', { inputs: 'Hi' })
    expect(text).toMatch(/^(:\n\n){2,}data:/)
    expect(eventsOf(text)).toHaveLength(2)
    await quiet.close()
  })

  test('a worker that does not keep the deadline is left, and the client told', async () => {
    const hurried = await startGateway({ times: { deadlineMs: -950 } })
    const held = heldRuns()
    hurried.worker.script = held.script
    const answer = hurried.post('/generate', { inputs: 'Hi' })
    await (await held.next()).left
    expect([(await answer).status, (await answer).json]).toMatchObject([504, { error_type: 'incomplete_generation' }])
    await hurried.close()
  })

  test('a client that stops reading is cut off, its run ends, and others are served meanwhile', async () => {
    const strict = await startGateway({ times: { slowReaderMs: 100 } })
    const held = heldRuns()
    strict.worker.script = held.script
    const socket = client({ inputs: 'Hi' }, '/generate_stream', strict.url)
    socket.pause()
    const run = await held.next()
    let sent = 0
    const flood = setInterval(() => {
      for (let n = 0; n < 64; n++) run.send(token('x'.repeat(1024)))
      sent += 64 * 1024
    }, 2)
    await run.left
    clearInterval(flood)
    expect(sent).toBeLessThan(256 * 1024 * 1024)
    strict.worker.script = helloWorld
    expect((await strict.post('/generate', { inputs: 'Hi' })).status).toBe(200)
    socket.destroy()
    await strict.close()
  })

  test('a client that reads late finds the whole stream, though its run was over long before', async () => {
    const held = heldRuns()
    under.worker.script = held.script
    const socket = client({ inputs: 'Hi' })
    socket.pause()
    const run = await held.next()
    run.send(accepted)
    for (let n = 0; n < 400; n++) run.send(token('x'.repeat(1024)))
    run.send(token('!', true), done('end'))
    run.end()
    // The worker's side is done with before the client begins.
    while ((await request(`${under.url}/health`)).statusCode !== 200);
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
      if (text.includes('"generated_text":"end"')) socket.destroy()
    })
    socket.resume()
    await new Promise((resolve) => socket.once('close', resolve))
    expect(text.match(/data:/g)).toHaveLength(401)
  })
})

describe('the server itself', () => {
  test('while the model is loaded says so to everyone who needs it', async () => {
    const starting = await startGateway({ withoutWorker: true })
    const answer = await starting.post('/generate', { inputs: 'Hi' })
    expect([answer.status, answer.headers['retry-after'], answer.json]).toMatchObject([503, '2', { error_type: 'overloaded' }])
    const stream = await starting.post('/generate_stream', { inputs: 'Hi' })
    expect([stream.status, eventsOf(stream.text)]).toEqual([200, [answer.json]])
    for (const path of ['/health', '/info']) expect((await request(starting.url + path)).statusCode).toBe(503)
    await starting.close()
  })

  test('when it closes lets a running stream finish and takes no new one', async () => {
    const held = heldRuns()
    under.worker.script = held.script
    const running = under.post('/generate_stream', { inputs: 'Hi' })
    const run = await held.next()
    run.send(accepted, token('Hello'))
    const closed = under.gateway.close(10_000)
    await expect(under.post('/generate', { inputs: 'Hi' })).rejects.toThrow()
    run.send(token(' world', true), done('Hello world'))
    run.end()
    expect(eventsOf((await running).text)).toHaveLength(2)
    await closed
  })

  test('refuses a new request on an old connection while it closes', async () => {
    const held = heldRuns()
    under.worker.script = held.script
    const running = under.post('/generate_stream', { inputs: 'Hi' })
    const run = await held.next()
    const socket = client({ inputs: 'Hi' })
    const second = await held.next()
    const closed = under.gateway.close(10_000)
    second.send(accepted, token('!', true), done('!'))
    second.end()
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    socket.write(
      'POST /generate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"inputs":"Hi"}',
    )
    await new Promise((resolve) => socket.once('close', resolve))
    expect(text).toMatch(/HTTP\/1\.1 503 [\s\S]*The server is being stopped/)
    helloWorld(run)
    await running
    await closed
  })

  test('ends what does not finish in time with an error event', async () => {
    const held = heldRuns()
    under.worker.script = held.script
    const running = under.post('/generate_stream', { inputs: 'Hi' })
    const run = await held.next()
    run.send(accepted, token('Hello'))
    await under.gateway.close(50)
    expect(eventsOf((await running).text).at(-1)).toMatchObject({ error_type: 'overloaded' })
    await run.left
  })

  test('names the address when the machine does not have it', async () => {
    await expect(startGateway({ host: '192.0.2.1' })).rejects.toMatchObject({
      code: 'invalid_request',
      message:
        'cannot listen on 192.0.2.1:0: this machine has no such address (EADDRNOTAVAIL); choose another with --host or QUIVER_HOST',
    })
  })

  test('says in one line when its port is taken', async () => {
    const { port } = new URL(under.url)
    await expect(startGateway({ port: Number(port) })).rejects.toMatchObject({
      code: 'conflict',
      message: `cannot listen on 127.0.0.1:${port}: another program is listening there; choose another with --port or QUIVER_PORT`,
    })
  })
})
