/** Quiver in front of a server that computes for it: gateway and worker as real processes, the server a stub that speaks vLLM's API. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'
import { RemoteStub, stubLogprob, stubTokens } from '../support/remote-stub.ts'
import { tinyModelsFolder } from '../support/tiny-models.ts'

const model = join(tinyModelsFolder, 'llama-fp32-tied')
const vocabSize = 256
const adapter = { adapter_id: join(model, 'adapter'), adapter_source: 'local' } as const

let stub: RemoteStub
let server: QuiverServer
let folder: string

beforeAll(async () => {
  stub = await RemoteStub.start({ kind: 'vllm', model: 'org/llama-fp32-tied', vocabSize, totalTokens: 128, slots: 1 })
  folder = await mkdtemp(join(tmpdir(), 'quiver-remote-'))
  server = await startQuiver({
    args: ['--engine', 'remote', '--remote', stub.url, '--remote-folder', folder, '--model', model, '--local-roots', model],
  })
})
afterAll(async () => {
  await server?.stop()
  await stub?.stop()
  await rm(folder, { recursive: true, force: true })
})

async function generate(parameters: Record<string, unknown>) {
  const response = await post(`${server.url}/generate`, { inputs: 'abc', parameters: { details: true, ...parameters } })
  return { status: response.status, body: response.json as Record<string, unknown> }
}

interface Details {
  readonly seed: number | null
  readonly tokens: readonly { readonly id: number; readonly logprob: number }[]
}

const detailsOf = (body: Record<string, unknown>) => body['details'] as Details
const promptOf = (at: number) => (stub.asked[at] as { prompt: number[] }).prompt

describe('a worker whose engine is a server', () => {
  test('says so', async () => {
    expect(server.process.output).toContain('remote on vllm')
  })

  test('answers with the tokens and log-probabilities of the server, base and adapter', async () => {
    const before = stub.asked.length
    const base = await generate({ max_new_tokens: 6 })
    const tuned = await generate({ max_new_tokens: 6, ...adapter })
    expect([base.status, tuned.status]).toEqual([200, 200])
    const [name = ''] = stub.adapters.keys()
    expect(name).toMatch(/^quiver-[0-9a-f]{64}$/)
    for (const [index, { answer, as }] of [
      { answer: base, as: undefined },
      { answer: tuned, as: name },
    ].entries()) {
      const tokens = stubTokens(promptOf(before + index), as, { count: 6, vocabSize })
      expect(detailsOf(answer.body).tokens.map(({ id, logprob }) => [id, logprob])).toEqual(
        tokens.map((id) => [id, stubLogprob(id)]),
      )
    }
  })

  test('loads an adapter again when the server was restarted', async () => {
    await generate({ max_new_tokens: 2, ...adapter })
    const loads = stub.loads.length
    stub.forget()
    expect((await generate({ max_new_tokens: 2, ...adapter })).status).toBe(200)
    expect(stub.loads).toHaveLength(loads + 1)
  })

  test.each([
    ['typical_p', { do_sample: true, typical_p: 0.5 }],
    ['watermark', { watermark: true }],
  ])('refuses %s with 422 and its name', async (name, parameters) => {
    const { status, body } = await generate(parameters)
    expect([status, body]).toEqual([422, expect.objectContaining({ error: expect.stringContaining(name) })])
  })

  test('refuses embeddings by name', async () => {
    const response = await post(`${server.url}/v1/embeddings`, { input: 'abc', model: 'llama-fp32-tied' })
    expect([response.status, response.text]).toEqual([422, expect.stringContaining('an embedding')])
  })

  test('ends a stream that the server cuts with an error, after the tokens that had come', async () => {
    stub.faults = { cutAfter: 3 }
    const response = await post(`${server.url}/generate_stream`, { inputs: 'abc', parameters: { max_new_tokens: 9 } })
    const events = eventsOf(response.text)
    expect(events).toHaveLength(4)
    expect(events[3]).toMatchObject({ error: expect.any(String), error_type: 'incomplete_generation' })
  })

  // Last: it ends the server.
  test('leaves neither adapters nor files when it stops', async () => {
    await generate({ max_new_tokens: 2, ...adapter })
    expect(stub.adapters.size).toBe(1)
    expect((await server.stop()).code).toBe(0)
    expect([stub.adapters.size, await readdir(folder)]).toEqual([0, []])
  })
})
