/** Administration of a real server: adapters from everywhere answer with their own weights, whatever their names come to mean meanwhile. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Answer, post } from '../support/gateway-under-test.ts'
import { type GoldenCase, goldenCases } from '../support/golden.ts'
import { firstCommit } from '../support/hub-adapters.ts'
import { type HubServer, openHub } from '../support/hub-server.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

const examples = join(import.meta.dirname, '../../examples/adapters')
const files = ['adapter_config.json', 'adapter_model.safetensors'] as const

function golden(adapter: string): GoldenCase {
  const found = goldenCases.find((one) => one.adapter === adapter)
  if (found === undefined) throw new Error(`there is no golden case of ${adapter}`)
  return found
}

let server: QuiverServer
let hub: HubServer
beforeAll(async () => {
  hub = await openHub({
    'acme/shout': { commits: { [firstCommit]: join(examples, 'shout') }, refs: { main: firstCommit } },
  })
  server = await startQuiver({
    env: {
      ...{ QUIVER_DTYPE: 'fp32', QUIVER_LOCAL_ROOTS: examples, HF_ENDPOINT: hub.endpoint, HF_TOKEN: '' },
      LORA_ADAPTERS: `started=${join(examples, 'sentiment')},acme/nothing`,
      PRELOADED_ADAPTER_IDS: 'shout',
    },
  })
})
afterAll(async () => {
  await server?.stop()
  await hub?.close()
})

async function ask(
  method: string,
  path: string,
  body?: object,
): Promise<{ readonly status: number; readonly json: Record<string, unknown> }> {
  const isForm = body instanceof FormData
  const answered = await fetch(server.url + path, {
    method,
    ...(body === undefined ? {} : { body: isForm ? body : JSON.stringify(body) }),
    ...(body === undefined || isForm ? {} : { headers: { 'content-type': 'application/json' } }),
  })
  return { status: answered.status, json: (await answered.json()) as Record<string, unknown> }
}

const generate = async (id: string, { prompt, token_ids }: GoldenCase): Promise<Answer> =>
  await post(`${server.url}/generate`, { inputs: prompt, parameters: { adapter_id: id, max_new_tokens: token_ids.length } })

test('adapters of the start are there and pinned, and one that cannot be had is a line', async () => {
  expect((await generate('started', golden('sentiment'))).json).toEqual({ generated_text: golden('sentiment').text })
  expect((await ask('GET', '/admin/adapters/started')).json).toMatchObject({
    pinned: true,
    residency: [{ state: 'resident', pinned: true }],
  })
  expect((await ask('GET', '/admin/adapters/shout')).json).toMatchObject({ pinned: true })
  expect(server.process.output).toMatch(/Adapter acme\/nothing of the start is not served: .*\n/)
})

describe('an adapter that is published', () => {
  test('from a folder, as an upload or from the hub answers with its own weights, and the same content is one digest', async () => {
    const local = await ask('POST', '/admin/adapters', { name: 'by/path', source: { type: 'local', path: 'text-to-sql' } })
    const form = new FormData()
    for (const file of files)
      form.set(file, new Blob([new Uint8Array(await readFile(join(examples, 'text-to-sql', file)))]), file)
    const upload = await ask('PUT', '/admin/adapters/by%2Fupload/upload', form)
    const hub = await ask('POST', '/admin/adapters', { name: 'by/hub', source: { type: 'hub', id: 'acme/shout' } })
    expect([local.status, upload.status, hub.status]).toEqual([201, 201, 201])
    expect(local.json['digest']).toBe(upload.json['digest'])
    for (const [name, adapter] of [
      ['by/path', 'text-to-sql'],
      ['by/upload', 'text-to-sql'],
      ['by/hub', 'shout'],
    ] as const) {
      expect((await generate(name, golden(adapter))).json, name).toEqual({ generated_text: golden(adapter).text })
    }
  })
})

/** One request of the traffic: what its digest was, and what its text has to be for it. */
interface Seen {
  readonly status: number
  readonly digest: string
  readonly text: string
}

describe('O12, W13: a name that comes to mean other weights during traffic', () => {
  test('answers each request with the weights of the digest that it began with (I1)', async () => {
    const prompt = golden('text-to-sql')
    // What either set of weights says to this very prompt: the first as PEFT says it, the second as the same server does by its own name.
    const publishAs = async (adapter: string) =>
      (await ask('POST', '/admin/adapters', { name: 'live', source: { type: 'local', path: adapter } })).json['digest'] as string
    const digests = [await publishAs('text-to-sql'), await publishAs('shout')] as const
    const shouted = (await generate('shout', prompt)).json as { generated_text: string }
    const texts = new Map([
      [digests[0], prompt.text],
      [digests[1], shouted.generated_text],
    ])
    expect(new Set(texts.values()).size).toBe(2)

    const seen: Seen[] = []
    let isOver = false
    const traffic = Array.from({ length: 6 }, async () => {
      while (!isOver) {
        const { status, headers, json } = await generate('live', prompt)
        const { generated_text: text = '' } = json as { generated_text?: string }
        seen.push({ status, digest: String(headers['x-adapter-digest']), text })
      }
    })
    const answered = async (count: number) => {
      const from = seen.length
      await expect.poll(() => seen.length - from, { timeout: 60_000, interval: 20 }).toBeGreaterThanOrEqual(count)
    }
    for (let round = 0; round < 3; round++) {
      await answered(4)
      expect((await ask('POST', '/admin/adapters/live/rollback', { expected: 2 })).status).toBe(200)
      await answered(4)
      expect((await ask('PUT', '/admin/adapters/live/aliases/latest', { version: 2, expected: 1 })).status).toBe(200)
    }
    await answered(4)
    const before = seen.length
    expect((await ask('DELETE', '/admin/adapters/live')).json).toMatchObject({ retired: true })
    await expect.poll(() => seen.slice(before).some(({ status }) => status === 424), { timeout: 60_000 }).toBe(true)
    isOver = true
    await Promise.all(traffic)

    const done = seen.filter(({ status }) => status === 200)
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200, 424]))
    for (const { digest, text } of done) expect(text).toBe(texts.get(digest))
    expect(new Set(done.map(({ digest }) => digest))).toEqual(new Set(digests))
    // None was refused before the name was deleted.
    expect(seen.slice(0, before).every(({ status }) => status === 200)).toBe(true)
    const v1 = await post(`${server.url}/v1/completions`, { model: 'live', prompt: 'Hi', max_tokens: 1 })
    expect(v1.status).toBe(404)
  })
})

test('a worker that is killed has the pinned adapters again when it is back', async () => {
  const { json } = await ask('POST', '/admin/adapters/text-to-sql/pin')
  expect(json).toMatchObject({ pinned: true, residency: [{ pinned: true }] })
  const [{ worker: first } = { worker: '' }] = json['residency'] as { worker: string }[]
  process.kill(await server.process.workerPid(), 'SIGKILL')
  await expect
    .poll(async () => (await ask('GET', '/admin/adapters/text-to-sql')).json['residency'], { timeout: 60_000, interval: 200 })
    .toMatchObject([{ worker: expect.not.stringMatching(`^${first}$`), pinned: true }])
})
