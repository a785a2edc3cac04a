/**
 * The promises of contract.md about a server that is configured as TGI and LoRAX are, with limits that are soon reached and with
 * keys. Its tests are the rows' checks that begin with `configured:`; they run one after another, because they count steps.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'
import { type Check, type Curl, type CurlRequest, curlAt, dataOf } from './check.ts'
import { clientOf, readContract } from './contract.ts'

const root = join(import.meta.dirname, '../..')
const INPUT_TOKENS = 400
const LONG = { max_new_tokens: 1200, ignore_eos_token: true }
/** Steps that a sequence may have been in after its client left: two of its own, and what was on the way to the client by then. */
const STEPS_AFTER = 8

let folder: string
let server: QuiverServer
let curl: Curl
const secrets = new Map<string, string>()

async function quiver(...args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const env = { ...process.env, QUIVER_KEYS: join(folder, 'keys.json') }
  return await promisify(execFile)(process.execPath, [join(root, 'packages/cli/src/main.ts'), ...args], { env })
}

async function addKey(name: string, tenant: string, rights: string): Promise<string> {
  const { stdout, stderr } = await quiver('keys', 'create', '--tenant', tenant, '--rights', rights)
  secrets.set(name, stdout.trim())
  return /^Key (\w+) of/.exec(stderr)?.[1] ?? ''
}

const bearer = (name: string) => ({ authorization: `Bearer ${secrets.get(name)}` })
const as = (name: string, path: string, request: CurlRequest = {}) =>
  curl(path, { ...request, headers: { ...bearer(name), ...request.headers } })
const generate = (parameters: object, inputs = '1, 2, 3, 4,') => as('acme', '/generate', { body: { inputs, parameters } })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quiver-test-'))
  await addKey('acme', 'acme', 'generate')
  await addKey('globex', 'globex', 'generate')
  await addKey('operator', 'house', 'admin')
  server = await startQuiver({
    env: {
      ...{ QUIVER_PORT: '', PORT: '0', HOSTNAME: '127.0.0.1', MODEL_ID: 'smollm2-135m-instruct' },
      ...{ MAX_INPUT_LENGTH: '400', MAX_TOTAL_TOKENS: '1600', MAX_BATCH_PREFILL_TOKENS: '4096', MAX_BATCH_TOTAL_TOKENS: '8192' },
      ...{ MAX_CONCURRENT_REQUESTS: '4', MAX_BEST_OF: '1', MAX_ACTIVE_ADAPTERS: '3', HUGGING_FACE_HUB_TOKEN: 'hf_nobody' },
      ...{
        QUIVER_SEQUENCES: '2',
        QUIVER_CHUNK_TOKENS: '4',
        QUIVER_PREFIX_CACHE_BYTES: '0',
        QUIVER_KEYS: join(folder, 'keys.json'),
      },
    },
    args: ['--max-stop-sequences', '2', '--adapter-source', 'store'],
  })
  curl = curlAt(server.url)
})
afterAll(async () => {
  await server?.stop()
  await rm(folder, { recursive: true, force: true })
})

/** What the worker says of itself now, by way of the metrics. */
async function workerState() {
  const { text } = await as('operator', '/metrics')
  const value = (name: string) => Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1])
  return {
    running: value('lorax_batch_current_size'),
    waiting: value('lorax_queue_length'),
    admitted: value('quiver_worker_admitted_total'),
    prefillRows: value('quiver_worker_rows_total{phase="prefill"}'),
    decodeRows: value('quiver_worker_rows_total{phase="decode"}'),
    taken: value('quiver_gateway_places_taken'),
  }
}
type State = Awaited<ReturnType<typeof workerState>>

/** Asks until it is so. */
async function whenState(isSo: (state: State) => boolean): Promise<State> {
  for (let asked = 0; asked < 2000; asked++) {
    const state = await workerState()
    if (isSo(state)) return state
  }
  throw new Error(`the worker did not come to that state: ${JSON.stringify(await workerState())}`)
}
const isIdle = ({ running, waiting, taken }: State) => running === 0 && waiting === 0 && taken === 0

interface OpenStream {
  /** Resolves when this many tokens have come. */
  readonly tokens: (count: number) => Promise<void>
  readonly received: () => number
  readonly text: () => string
  readonly ended: Promise<void>
  pause(): void
  resume(): void
  leave(): void
}

/** A stream whose client reads as it is told to, and can leave at any token. */
function open(path: string, body: object, name = 'acme'): OpenStream {
  let text = ''
  let waiting: (() => void)[] = []
  const wake = () => {
    const all = waiting
    waiting = []
    for (const one of all) one()
  }
  const ended = Promise.withResolvers<void>()
  const outgoing = httpRequest(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...bearer(name) },
  })
  const answered = Promise.withResolvers<import('node:http').IncomingMessage>()
  outgoing.on('error', () => ended.resolve())
  outgoing.on('response', (incoming) => {
    answered.resolve(incoming)
    incoming.setEncoding('utf8')
    incoming.on('data', (chunk: string) => {
      text += chunk
      wake()
    })
    incoming.on('error', () => ended.resolve())
    incoming.on('close', () => ended.resolve())
  })
  outgoing.end(JSON.stringify(body))
  const received = () => text.match(/^data: ?\{/gm)?.length ?? 0
  return {
    received,
    text: () => text,
    ended: ended.promise,
    async tokens(count) {
      while (received() < count) await new Promise<void>((resolve) => waiting.push(resolve))
    },
    pause: () => void answered.promise.then((incoming) => incoming.pause()),
    resume: () => void answered.promise.then((incoming) => incoming.resume()),
    leave: () => outgoing.destroy(),
  }
}

const checks: readonly Check[] = [
  {
    name: 'the variables of TGI are the limits that /info tells',
    async run() {
      const { json } = await as('acme', '/info')
      expect(json).toMatchObject({
        ...{ model_id: 'smollm2-135m-instruct', max_input_length: 400, max_total_tokens: 1600, max_concurrent_requests: 4 },
        ...{ max_best_of: 1, max_stop_sequences: 2, adapter_slots: 3 },
      })
    },
  },
  {
    name: 'variables without effect are named at the start, and no token is shown',
    async run() {
      const { output } = server.process
      expect(output).toMatch(/MAX_BATCH_PREFILL_TOKENS has no effect/)
      expect(output).toMatch(/MAX_BATCH_TOTAL_TOKENS has no effect/)
      expect(output).not.toContain('hf_nobody')
    },
  },
  {
    name: 'a prompt of max_input_length tokens is served, one more is 422 on every route',
    async run() {
      const [exact, over] = ['x'.concat(' x'.repeat(INPUT_TOKENS - 1)), 'x'.concat(' x'.repeat(INPUT_TOKENS))]
      expect((await generate({ max_new_tokens: 1, details: true }, exact)).json).toMatchObject({
        details: { prompt_tokens: INPUT_TOKENS },
      })
      const text = '`inputs` must have less than 400 tokens. Given: 401'
      const lorax = await generate({ max_new_tokens: 1 }, over)
      expect([lorax.status, lorax.json]).toEqual([422, { error: `Input validation error: ${text}`, error_type: 'validation' }])
      const openai = await as('acme', '/v1/completions', { body: { model: '', prompt: over, max_tokens: 1 } })
      expect([openai.status, openai.json]).toMatchObject([
        422,
        { error: { message: expect.stringContaining('must have less than 400 tokens') } },
      ])
      const embed = await as('acme', '/embed', { body: { inputs: over } })
      expect([embed.status, embed.json]).toMatchObject([422, { error: expect.stringContaining('400 tokens. Given: 401') }])
    },
  },
  {
    name: 'truncate is bounded by max_input_length, and makes room',
    async run() {
      const prompt = 'x'.concat(' x'.repeat(2 * INPUT_TOKENS))
      expect((await generate({ truncate: INPUT_TOKENS + 1 }, prompt)).text).toContain(
        '`truncate` must be strictly positive and less than 400',
      )
      expect((await generate({ truncate: INPUT_TOKENS, max_new_tokens: 1 }, prompt)).status).toBe(200)
    },
  },
  {
    name: 'a best_of is not allowed where the limit is 1',
    async run() {
      const text = '`best_of` != 1 is not allowed for this endpoint'
      expect((await generate({ best_of: 2, do_sample: true })).json).toMatchObject({ error: `Input validation error: ${text}` })
      const { json } = await as('acme', '/v1/completions', { body: { model: '', prompt: 'Hi', best_of: 2 } })
      expect(json).toMatchObject({ error: { message: text, param: 'best_of' } })
    },
  },
  {
    name: 'stop texts are bounded by the flag',
    async run() {
      const { json } = await generate({ stop: ['a', 'b', 'c'] })
      expect(json).toMatchObject({ error: expect.stringContaining('`stop` supports up to 2 stop sequences. Given: 3') })
    },
  },
  {
    name: 'more adapters than slots are served in turn',
    async run() {
      const names = ['text-to-sql', 'support-json', 'sentiment', 'shout']
      for (const batch of [names.slice(0, 2), names.slice(2), names.slice(1, 3)]) {
        const answers = await Promise.all(batch.map((adapter_id) => generate({ adapter_id, max_new_tokens: 2 })))
        expect(answers.map(({ status, headers }) => [status, headers['x-adapter-id']])).toEqual(batch.map((name) => [200, name]))
      }
    },
  },
  {
    name: 'a full house is 429 with Retry-After in both forms, best_of is judged before and temperature after',
    async run() {
      const streams = Array.from({ length: 4 }, () => open('/generate_stream', { inputs: 'a', parameters: LONG }))
      await whenState(({ taken }) => taken === 4)
      const lorax = await generate({ max_new_tokens: 1 })
      expect([lorax.status, lorax.headers['retry-after'], lorax.json]).toEqual([
        ...[429, '1', { error: 'Model is overloaded', error_type: 'overloaded' }],
      ])
      const openai = await as('acme', '/v1/completions', { body: { model: '', prompt: 'Hi' } })
      expect([openai.status, openai.headers['retry-after'], openai.json]).toMatchObject([
        ...[429, '1', { error: { type: 'rate_limit_error', code: 'overloaded' }, error_type: 'overloaded' }],
      ])
      expect((await generate({ best_of: 2 })).status).toBe(422)
      expect((await generate({ temperature: -1 })).status).toBe(429)
      const stream = await as('acme', '/generate_stream', { body: { inputs: 'Hi', parameters: { max_new_tokens: 1 } } })
      expect([stream.status, JSON.parse(dataOf(stream.text)[0] ?? '')]).toMatchObject([200, { error_type: 'overloaded' }])
      for (const one of streams) one.leave()
      await whenState(isIdle)
      expect((await generate({ max_new_tokens: 1 })).status).toBe(200)
    },
  },
  {
    name: 'a client that leaves in decode is out of the batch within two steps',
    async run() {
      const before = await whenState(isIdle)
      const stream = open('/generate_stream', { inputs: 'a', parameters: LONG })
      await stream.tokens(5)
      stream.leave()
      const after = await whenState(isIdle)
      expect(after.decodeRows - before.decodeRows).toBeLessThanOrEqual(stream.received() + STEPS_AFTER)
    },
  },
  {
    name: 'so is one of /v1, and one that waits for a whole answer',
    async run() {
      const before = await whenState(isIdle)
      const chat = {
        model: '',
        messages: [{ role: 'user', content: 'a' }],
        max_tokens: 1200,
        stream: true,
        ignore_eos_token: true,
      }
      const stream = open('/v1/chat/completions', chat)
      await stream.tokens(5)
      stream.leave()
      const between = await whenState(isIdle)
      expect(between.decodeRows - before.decodeRows).toBeLessThanOrEqual(stream.received() + STEPS_AFTER)
      const whole = open('/generate', { inputs: 'a', parameters: LONG })
      const then = await whenState(({ decodeRows }) => decodeRows > between.decodeRows)
      whole.leave()
      const after = await whenState(isIdle)
      expect(after.decodeRows - then.decodeRows).toBeLessThan(LONG.max_new_tokens / 4)
    },
  },
  {
    name: 'a client that leaves in prefill ends it before it is through',
    async run() {
      const before = await whenState(isIdle)
      const stream = open('/generate_stream', {
        inputs: 'x'.concat(' x'.repeat(INPUT_TOKENS - 1)),
        parameters: { max_new_tokens: 2 },
      })
      await whenState(({ admitted, prefillRows }) => admitted > before.admitted && prefillRows > before.prefillRows)
      stream.leave()
      const after = await whenState(isIdle)
      expect(after.prefillRows - before.prefillRows).toBeLessThan(INPUT_TOKENS)
      expect(after.decodeRows).toBe(before.decodeRows)
    },
  },
  {
    name: 'a client that leaves the queue is never admitted',
    async run() {
      const before = await whenState(isIdle)
      const running = [1, 2].map(() => open('/generate_stream', { inputs: 'a', parameters: LONG }))
      await Promise.all(running.map((one) => one.tokens(1)))
      const queued = open('/generate_stream', { inputs: 'b', parameters: LONG })
      await whenState(({ waiting }) => waiting === 1)
      queued.leave()
      const left = await whenState(({ waiting }) => waiting === 0)
      expect([left.admitted - before.admitted, left.running]).toEqual([2, 2])
      for (const one of running) one.leave()
      await whenState(isIdle)
    },
  },
  {
    name: 'a client that does not read holds up nobody and loses nothing',
    async run() {
      const slow = open('/generate_stream', {
        inputs: 'a',
        parameters: { ...LONG, max_new_tokens: 80, return_k_alternatives: 32 },
      })
      await slow.tokens(1)
      slow.pause()
      expect((await generate({ max_new_tokens: 10, ignore_eos_token: true })).status).toBe(200)
      slow.resume()
      await slow.ended
      expect(slow.received()).toBe(80)
      expect(JSON.parse(dataOf(slow.text()).at(-1) ?? '')).toMatchObject({ generated_text: expect.any(String) })
    },
  },
  {
    name: 'T01 a missing, a wrong and a nearly right key are the same 401 in both forms',
    async run() {
      const right = secrets.get('acme') ?? ''
      const near = right.slice(0, -1) + (right.endsWith('A') ? 'B' : 'A')
      for (const path of ['/generate', '/v1/completions', '/nowhere', '/admin/adapters']) {
        const answers = await Promise.all(
          [undefined, `Bearer ${near}`, 'Bearer x', `Bearer ${right}x`].map((authorization) =>
            curl(path, { body: {}, headers: authorization === undefined ? {} : { authorization } }),
          ),
        )
        expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 401])
        expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
      }
    },
  },
  {
    // Not asked while all clients storm the other server: there a worker may well take longer to say so than health waits.
    name: 'GET /, /health and /ping are 200 and empty, and need no key',
    async run() {
      for (const path of ['/', '/health', '/ping']) {
        const { status, text, headers } = await curl(path)
        expect([path, status, text, headers['x-request-id'] !== undefined]).toEqual([path, 200, '', true])
      }
    },
  },
  {
    name: 'a key without the right is 403',
    async run() {
      expect((await as('acme', '/metrics')).json).toMatchObject({ error_type: 'missing_right' })
    },
  },
  {
    name: "T02 another tenant's adapter is answered as one that does not exist",
    async run() {
      await publish('acme-secret', { tenant: 'acme' })
      expect((await generate({ adapter_id: 'acme-secret', max_new_tokens: 1 })).status).toBe(200)
      for (const [path, body] of [
        ['/generate', (id: string) => ({ inputs: 'Hi', parameters: { adapter_id: id } })],
        ['/generate', (id: string) => ({ inputs: 'Hi', parameters: { merged_adapters: { ids: [id], weights: [1] } } })],
        ['/embed', (id: string) => ({ inputs: 'Hi', parameters: { adapter_id: id } })],
        ['/v1/completions', (id: string) => ({ model: id, prompt: 'Hi' })],
      ] as const) {
        const [theirs, none] = await Promise.all(
          ['acme-secret', 'acme-nobody'].map((id) => as('globex', path, { body: body(id) })),
        )
        expect([theirs?.status, theirs?.text.replaceAll('acme-secret', 'NAME')]).toEqual([
          ...[none?.status, none?.text.replaceAll('acme-nobody', 'NAME')],
        ])
      }
      expect((await as('globex', '/v1/models')).text).not.toContain('acme-secret')
      expect((await as('acme', '/v1/models')).text).toContain('acme-secret')
    },
  },
  {
    name: 'T03 a revoked key lets its stream go on and is 401 from then on',
    async run() {
      const id = await addKey('short', 'acme', 'generate')
      const stream = open('/generate_stream', { inputs: 'a', parameters: LONG }, 'short')
      await stream.tokens(1)
      await quiver('keys', 'revoke', id)
      expect((await as('short', '/generate', { body: { inputs: 'Hi' } })).status).toBe(401)
      const then = stream.received()
      expect(then).toBeLessThan(LONG.max_new_tokens)
      await stream.tokens(then + 10)
      stream.leave()
      await whenState(isIdle)
    },
  },
  {
    name: "an adapter's own chat template renders its conversations, and one that fails is 422 template_error",
    async run() {
      const chat = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1, temperature: 0 }
      const tokens = async (model: string) => {
        const { json } = await as('acme', '/v1/chat/completions', { body: { ...chat, model } })
        return (json as { usage: { prompt_tokens: number } }).usage.prompt_tokens
      }
      await publish('templated', { template: "{{ messages[0]['content'] }}" })
      expect(await tokens('templated')).toBeLessThan(await tokens('shout'))
      await publish('broken', { template: "{{ raise_exception('no such turn') }}" })
      const { status, json } = await as('acme', '/v1/chat/completions', { body: { ...chat, model: 'broken' } })
      expect([status, json]).toMatchObject([
        422,
        { error: { message: expect.stringContaining('no such turn') }, error_type: 'template_error' },
      ])
    },
  },
]

/** By the public routes of administration, as an operator does. */
async function publish(name: string, { tenant, template }: { tenant?: string; template?: string }): Promise<void> {
  const example = join(root, 'examples/adapters/shout')
  const form = new FormData()
  for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
    form.append(file, new Blob([await readFile(join(example, file))]), file)
  if (tenant !== undefined) form.append('tenant', tenant)
  if (template !== undefined) form.append('chat_template.jinja', new Blob([template]), 'chat_template.jinja')
  const answer = await fetch(`${server.url}/admin/adapters/${name}/upload`, {
    method: 'PUT',
    headers: bearer('operator'),
    body: form,
  })
  if (answer.status !== 201) throw new Error(`${name} was not published: ${answer.status} ${await answer.text()}`)
}

const rows = readContract()
  .map((row) => ({ ...row, checks: row.checks.filter((check) => clientOf(check) === 'configured') }))
  .filter(({ checks: named }) => named.length > 0)
const byName = new Map(checks.map((check) => [`configured: ${check.name}`, check]))

describe.each(rows)('$section: $promise', ({ checks: named }) => {
  test.each(named)('%s', async (name) => {
    const check = byName.get(name)
    expect(check, `there is no check ${name}`).toBeDefined()
    await check?.run()
  })
})

test('every check of a configured server belongs to a row of the contract', () => {
  const named = new Set(rows.flatMap((row) => row.checks))
  process.stdout.write(`${byName.size} checks of a configured server\n`)
  expect([...byName.keys()].filter((name) => !named.has(name))).toEqual([])
})
