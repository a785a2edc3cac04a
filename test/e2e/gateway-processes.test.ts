/** `quiver gateway --processes 2` over a real worker: one port, several processes, and what happens when one of them goes. */
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { workerInfoSchema } from '@quiver/protocol'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildAdapter } from '../support/adapter-files.ts'
import { uploadForm } from '../support/admin-under-test.ts'
import { until } from '../support/cluster.ts'
import { childrenOf, isAlive } from '../support/processes.ts'
import { cacheFolder, QuiverProcess } from '../support/quiver-server.ts'
import { tinyModelsFolder } from '../support/tiny-models.ts'

const TOKEN = 'a secret of the tests'
const PROCESSES = 2
let folder: string
let worker: QuiverProcess
let gateway: QuiverProcess
let url: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quiver-processes-'))
  const common = { QUIVER_STORE: pathToFileURL(join(folder, 'store')).href, QUIVER_WORKER_TOKEN: TOKEN }
  worker = await QuiverProcess.start({
    command: 'worker',
    env: {
      ...common,
      QUIVER_MODEL: join(tinyModelsFolder, 'llama-fp32-tied'),
      QUIVER_LORA: 'standard',
      QUIVER_THREADS: '1',
      // A text of 400 tokens takes 400 steps, so that it is under way when something is killed.
      QUIVER_SPECULATION: 'off',
      QUIVER_SEQUENCES: '8',
      QUIVER_TOTAL_TOKENS: '512',
      QUIVER_WORKER_PORT: '0',
      QUIVER_CACHE: cacheFolder(),
    },
  })
  const [, workerUrl = ''] = await worker.whenWritten(/the worker is ready \{"url":"([^"]+)"/)
  gateway = await QuiverProcess.start({
    command: 'gateway',
    args: ['--processes', String(PROCESSES)],
    env: { ...common, QUIVER_WORKERS: workerUrl, QUIVER_DRAIN_DELAY_MS: '1000', QUIVER_DROP_INTERVAL_MS: '0' },
  })
  ;[, url = ''] = await gateway.whenWritten(/gateway is ready: (\S+) \(2 processes\)/)
  // Each of them has to hear of the worker by itself.
  for (let round = 0; round < 2 * PROCESSES; round++)
    await until(async () => (await ask('/health')).includes(' 200 '), 'every process serves')
})
afterAll(async () => {
  gateway?.signal('SIGKILL')
  await gateway?.stop()
  await worker?.stop()
  await rm(folder, { recursive: true, force: true })
})

const completion = (more: object = {}) => JSON.stringify({ prompt: 'abc', max_tokens: 4, ignore_eos_token: true, ...more })

/** A connection of its own with one request on it; connections go to the processes in turn. */
function open(path: string, body?: string, type = 'application/json'): Socket {
  const { hostname, port, host } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  const head = body === undefined ? `GET ${path}` : `POST ${path}`
  const about = body === undefined ? '' : `content-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`
  socket.write(`${head} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n${about}\r\n${body ?? ''}`)
  return socket
}

/** Everything that comes until the connection is closed. */
async function read(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
  })
  await new Promise((resolve) => socket.once('close', resolve))
  return text
}

const ask = (path: string, body?: string) => read(open(path, body))

test('connections are answered by every process in turn, and metrics are those of all of them', async () => {
  expect(await childrenOf(gateway.pid)).toHaveLength(PROCESSES)
  const before = await countOf('lorax_request_success')
  const answers = await Promise.all(Array.from({ length: 12 }, () => ask('/v1/completions', completion())))
  expect(answers.filter((answer) => answer.includes(' 200 '))).toHaveLength(12)
  expect((await countOf('lorax_request_success')) - before).toBe(12)
  expect(await countOf('quiver_gateway_processes')).toBe(PROCESSES)
})

test('what is published through one process is there for the next request, whichever process gets it', async () => {
  const info = await fetch(`${await workerUrl()}/v1/info`, { headers: { authorization: `Bearer ${TOKEN}` } })
  const { layout } = workerInfoSchema.parse(await info.json())
  for (let round = 0; round < 4; round++) {
    const name = `fresh${round}`
    const { config, weights } = buildAdapter({ layout, rank: 4, alpha: 4 + round, targets: ['q_proj'] })
    const form = uploadForm({ config, weights })
    const published = await fetch(`${url}/admin/adapters/${name}/upload`, { method: 'PUT', body: form })
    expect([published.status, await published.text()]).toEqual([201, expect.stringContaining(name)])
    const answers = await Promise.all(
      Array.from({ length: 2 * PROCESSES }, () => ask('/v1/completions', completion({ model: name }))),
    )
    expect(answers.map((answer) => answer.split('\r\n')[0])).toEqual(answers.map(() => 'HTTP/1.1 200 OK'))
  }
})

test('G03 a process that is killed takes its own connections with it and no others, and is back', async () => {
  const streams = Array.from({ length: 4 }, () => open('/v1/completions', completion({ max_tokens: 400, stream: true })))
  const texts = streams.map(read)
  await Promise.all(streams.map((socket) => new Promise((resolve) => socket.once('data', resolve))))
  const before = await childrenOf(gateway.pid)
  const [doomed = -1] = before
  process.kill(doomed, 'SIGKILL')
  const ended = await Promise.all(texts)
  // Which process a connection goes to is Node's to say; four in a row never go to one of two that are idle.
  const whole = ended.filter((text) => text.includes('[DONE]')).length
  expect(whole).toBeGreaterThan(0)
  expect(whole).toBeLessThan(streams.length)
  // New connections go to who is left.
  expect(await ask('/v1/completions', completion())).toContain(' 200 ')
  await until(async () => {
    const now = await childrenOf(gateway.pid)
    return now.length === PROCESSES && !now.includes(doomed) && (await countOf('quiver_gateway_processes')) === PROCESSES
  }, 'another process is in its place')
  expect(gateway.output).toContain('a process of the gateway ended with signal SIGKILL; it is started again in 200 ms')
  for (let round = 0; round < 2 * PROCESSES; round++)
    await until(async () => (await ask('/v1/completions', completion())).includes(' 200 '), 'both answer again')
})

test('G09 SIGTERM in traffic drains all of them: no request fails, and nothing is left running', async () => {
  const children = await childrenOf(gateway.pid)
  const failures: string[] = []
  let sent = 0
  let isOver = false
  const lane = async () => {
    while (!isOver && (await ask('/health')).includes(' 200 ')) {
      sent += 1
      const answer = await ask('/v1/completions', completion({ max_tokens: 16 }))
      if (!answer.includes(' 200 ')) failures.push(answer)
    }
  }
  const lanes = Promise.all([lane(), lane(), lane(), lane()])
  await until(async () => sent > 20, 'requests are sent')
  gateway.signal('SIGTERM')
  expect((await gateway.exit).code).toBe(0)
  isOver = true
  await lanes
  expect(failures).toEqual([])
  for (const child of children) expect(await isAlive(child)).toBe(false)
  expect(gateway.output.match(/Stopping/g)).toHaveLength(1)
})

test('a port that is taken is said once, and everything ends', async () => {
  const port = new URL(await workerUrl()).port
  const refused = await QuiverProcess.start({
    command: 'gateway',
    args: ['--processes', '3'],
    env: { QUIVER_WORKERS: await workerUrl(), QUIVER_WORKER_TOKEN: TOKEN, QUIVER_PORT: port },
  })
  expect((await refused.exit).code).not.toBe(0)
  expect(refused.output.match(/another program is listening there/g)).toHaveLength(1)
  await refused.stop()
})

async function countOf(metric: string): Promise<number> {
  const text = await ask('/metrics')
  return Number(new RegExp(`^${metric} (\\S+)$`, 'm').exec(text)?.[1])
}

async function workerUrl(): Promise<string> {
  const [, found = ''] = await worker.whenWritten(/the worker is ready \{"url":"([^"]+)"/)
  return found
}
