/** No process stays behind, whoever ends whom and when. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { descendantsOf, isAlive, whenGone } from '../support/processes.ts'
import { cacheFolder, QuiverProcess, type QuiverServer, startQuiver } from '../support/quiver-server.ts'

let server: QuiverServer | undefined
// The first start on a machine downloads and converts, which is not what these tests have time for.
beforeAll(async () => {
  await (await startQuiver()).stop()
})
afterEach(() => server?.stop().then(() => undefined))

/** Giving back half a gigabyte takes a kernel a second or two, more when others want it too. */
const GONE_MS = 10_000

const long = { inputs: '1, 2, 3, 4,', parameters: { max_new_tokens: 200, ignore_eos_token: true } }

/** A stream of this many tokens, chunk by chunk. */
async function openStream(url: string, max_new_tokens: number): Promise<AsyncIterator<Buffer>> {
  const { body } = await request(`${url}/generate_stream`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...long, parameters: { ...long.parameters, max_new_tokens } }),
  })
  return body[Symbol.asyncIterator]()
}

describe('SIGTERM and Ctrl-C', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s lets a running stream finish, then ends everything with exit code 0',
    async (signal) => {
      server = await startQuiver()
      const worker = await server.process.workerPid()
      const response = await request(`${server.url}/generate_stream`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...long, parameters: { ...long.parameters, max_new_tokens: 24 } }),
      })
      const chunks = response.body[Symbol.asyncIterator]()
      let text = String((await chunks.next()).value)
      server.process.signal(signal)
      for await (const chunk of { [Symbol.asyncIterator]: () => chunks }) text += chunk
      const events = eventsOf(text)
      expect(events).toHaveLength(24)
      expect(events.at(-1)).toMatchObject({ generated_text: expect.any(String) })
      expect(await server.process.exit).toEqual({ code: 0, signal: null })
      expect(await isAlive(worker)).toBe(false)
    },
  )

  test('a second signal ends everything at once', async () => {
    server = await startQuiver()
    const { process: running, url } = server
    const worker = await running.workerPid()
    const chunks = await openStream(url, 1500)
    await chunks.next()
    // What comes within half a second counts as the same wish, since npm doubles every Ctrl-C.
    const insist = setInterval(() => running.signal('SIGTERM'), 100)
    const { code } = await running.exit.finally(() => clearInterval(insist))
    expect(code).toBe(130)
    await whenGone(worker, GONE_MS)
  })

  test('while the model is converted ends everything', async () => {
    const cache = await mkdtemp(join(tmpdir(), 'quiver-cache-'))
    const converting = await QuiverProcess.start({ env: { QUIVER_CACHE: cache, QUIVER_MODEL: await cachedModel() } })
    await converting.whenWritten(/Converting/)
    const worker = await converting.workerPid()
    expect(await converting.stop()).toEqual({ code: 0, signal: null })
    await whenGone(worker, GONE_MS)
    await rm(cache, { recursive: true })
  })
})

describe('kill -9', () => {
  test('of the gateway ends the worker in the middle of a step', async () => {
    server = await startQuiver()
    const worker = await server.process.workerPid()
    const running = Promise.all(Array.from({ length: 8 }, () => post(`${server?.url}/generate`, long).catch(() => undefined)))
    await post(`${server.url}/generate`, { inputs: 'Hi', parameters: { max_new_tokens: 1 } })
    server.process.signal('SIGKILL')
    await whenGone(worker, GONE_MS)
    await running
  })

  test('of the gateway ends the worker in the middle of a conversion', async () => {
    const cache = await mkdtemp(join(tmpdir(), 'quiver-cache-'))
    const converting = await QuiverProcess.start({ env: { QUIVER_CACHE: cache, QUIVER_MODEL: await cachedModel() } })
    await converting.whenWritten(/Converting/)
    const worker = await converting.workerPid()
    converting.signal('SIGKILL')
    await whenGone(worker, GONE_MS)
    await converting.stop()
    await rm(cache, { recursive: true })
  })

  test('of the worker: it is started again, and requests in the meantime are answered', async () => {
    server = await startQuiver()
    const first = await server.process.workerPid()
    const answers = Array.from({ length: 4 }, () =>
      post(`${server?.url}/generate`, { inputs: 'Hi', parameters: { max_new_tokens: 4 } }),
    )
    process.kill(first, 'SIGKILL')
    answers.push(post(`${server.url}/generate`, { inputs: 'Hi', parameters: { max_new_tokens: 4 } }))
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(5).fill(200))
    expect(await server.process.workerPid()).not.toBe(first)
    expect((await request(`${server.url}/health`)).statusCode).toBe(200)
  })

  test('of the worker in the middle of a stream: the stream ends with an error event, and the log has the step (W04)', async () => {
    server = await startQuiver()
    const response = await request(`${server.url}/generate_stream`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(long),
    })
    let text = ''
    for await (const chunk of response.body) {
      if (text === '') process.kill(await server.process.workerPid(), 'SIGKILL')
      text += chunk
    }
    expect(eventsOf(text).at(-1)).toMatchObject({ error_type: 'incomplete_generation' })
    await server.process.whenWritten(/the worker ended with signal SIGKILL (in|after) step \d+ of \d+ rows and 1 sequences; it/)
    expect((await post(`${server.url}/generate`, { inputs: 'Hi', parameters: { max_new_tokens: 1 } })).status).toBe(200)
  })
})

describe('npm start', () => {
  // npm runs a script in a shell. That shell took SIGTERM for itself, and server and worker went on without anyone to stop them.
  test.each(['SIGTERM', 'SIGKILL'] as const)('%s to npm alone ends everything', async (signal) => {
    const data = await mkdtemp(join(tmpdir(), 'quiver-data-'))
    const started = await QuiverProcess.start({ underNpm: true, env: { QUIVER_DATA: data } })
    await started.whenWritten(/Try it/)
    const tree = await descendantsOf(started.pid)
    expect(tree.length).toBeGreaterThanOrEqual(2)
    started.signal(signal)
    for (const pid of tree) await whenGone(pid, GONE_MS)
    await started.stop()
    await rm(data, { recursive: true })
  })
})

describe('a start that cannot succeed', () => {
  const refused: QuiverProcess[] = []
  afterAll(() => Promise.all(refused.map((one) => one.stop())))
  const start = async (env: Record<string, string>) => {
    const started = await QuiverProcess.start({ env })
    refused.push(started)
    return started
  }

  test('because the port is taken says so in one line before anything is downloaded', async () => {
    const cache = await mkdtemp(join(tmpdir(), 'quiver-cache-'))
    const holder = createServer()
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const { port } = holder.address() as { port: number }
    const started = await start({ QUIVER_PORT: String(port), QUIVER_CACHE: cache })
    expect(await started.exit).toEqual({ code: 1, signal: null })
    expect(started.output).toBe(
      `quiver: cannot listen on 127.0.0.1:${port}: another program is listening there; choose another with --port or QUIVER_PORT\n`,
    )
    expect(await readdir(cache)).toEqual([])
    holder.close()
    await rm(cache, { recursive: true })
  })

  test('because the model does not exist ends with exit code 1 and that one message', async () => {
    const started = await start({ QUIVER_MODEL: './no-such-model' })
    expect(await started.exit).toEqual({ code: 1, signal: null })
    expect(started.output).toMatch(/^quiver: .*no-such-model.*\n$/)
  })

  test('because the data folder is a file names it and what to change, after a root that is not there', async () => {
    const started = await start({ QUIVER_DATA: import.meta.filename, QUIVER_LOCAL_ROOTS: '/no/such/root' })
    expect(await started.exit).toEqual({ code: 1, signal: null })
    expect(started.output).toMatch(
      /^QUIVER_LOCAL_ROOTS names \/no\/such\/root, which is not a folder here: adapters below it are refused\.\nquiver: cannot keep adapters in \S+processes\.test\.ts\/store \(ENOTDIR\): choose a folder that can be written, with --data or QUIVER_DATA\n$/,
    )
  })

  test('because a setting is wrong ends with exit code 2', async () => {
    const started = await start({ QUIVER_DTYPE: 'int9' })
    expect(await started.exit).toEqual({ code: 2, signal: null })
    expect(started.output).toBe('quiver: QUIVER_DTYPE is "int9", but must be one of int8, int4, fp32, fp16, bf16\n')
  })
})

/** The default model's file, which an earlier start has downloaded. */
async function cachedModel(): Promise<string> {
  const folder = join(cacheFolder(), 'models/smollm2-135m-instruct')
  const file = (await readdir(folder)).find((name) => name.endsWith('.gguf'))
  return join(folder, file ?? '')
}
