import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { PackedAdapter } from '@quiver/cache'
import type { SlotIndex } from '@quiver/protocol'
import { describe, expect, it, onTestFinished } from 'vitest'
import { fakeDigest } from '../../../support/fake-adapter-cache.ts'
import { fakeVocabSize } from '../../../support/fake-engine.ts'
import { fakeTokenizer } from '../../../support/fake-tokenizer.ts'
import { refusal } from '../../../support/refusal.ts'
import { openEngine, remoteName } from '../../../support/remote-harness.ts'
import { RemoteStub, type RemoteStubOptions } from '../../../support/remote-stub.ts'
import { temporaryFolder } from '../../../support/temporary-folder.ts'

async function stubOf(options: Partial<RemoteStubOptions> = {}): Promise<RemoteStub> {
  const stub = await RemoteStub.start({ kind: 'vllm', model: 'fake-model', vocabSize: fakeVocabSize, ...options })
  onTestFinished(() => stub.stop())
  return stub
}

const packed = (name: string): PackedAdapter => ({ digest: fakeDigest(name), dtype: 'f32', rank: 1, modules: [], bytes: 0 })
const tokenize = (text: string) => fakeTokenizer().encode(text)

describe('opening a server as the engine', () => {
  it.each(['vllm', 'sglang'] as const)('finds out by itself that it is %s, and takes its limits', async (kind) => {
    const stub = await stubOf({ kind, slots: 1, totalTokens: 32, tokenize })
    const engine = await openEngine(stub, { folder: await temporaryFolder(), slots: 4, maxRank: 64 })
    expect(engine.description).toEqual({ kind: 'remote', device: kind, lora: kind })
    expect(engine.capacity).toEqual({ sequences: 4, totalTokens: 32, slots: 1, maxRank: kind === 'sglang' ? 32 : 64 })
  })

  it('keeps to the slots that it is told where vLLM does not tell its own', async () => {
    const engine = await openEngine(await stubOf(), { folder: await temporaryFolder(), slots: 3 })
    expect(engine.slots).toBe(3)
  })

  it('refuses what is neither of them', async () => {
    const server = createServer((_, response) => response.writeHead(404).end('nothing here'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { code, message } = await refusal(async () => openEngine({ url }, { folder: await temporaryFolder() }))
    expect(code).toBe('invalid_request')
    expect(message).toContain('neither vLLM nor SGLang')
  })

  it('says that nobody answers where nobody listens', async () => {
    const stub = await stubOf()
    const { url } = stub
    await stub.stop()
    expect(await refusal(async () => openEngine({ url }, { folder: await temporaryFolder() }))).toMatchObject({
      code: 'worker_lost',
    })
  })

  it('refuses a model of another name, unless it is said to be the same', async () => {
    const stub = await stubOf({ model: 'org/other' })
    const folder = await temporaryFolder()
    const { code, message } = await refusal(() => openEngine(stub, { folder }))
    expect(code).toBe('invalid_request')
    expect(message).toContain('serves "org/other", and this worker\'s model is "fake-model"')
    await expect(openEngine(stub, { folder, model: 'org/other' })).resolves.toBeDefined()
  })

  it('takes a model whose name ends alike', async () => {
    const stub = await stubOf({ model: 'org/Fake-Model' })
    await expect(openEngine(stub, { folder: await temporaryFolder() })).resolves.toBeDefined()
  })

  it('refuses a named model that is not there, and names those that are', async () => {
    const stub = await stubOf()
    const { message } = await refusal(async () => openEngine(stub, { folder: await temporaryFolder(), model: 'absent' }))
    expect(message).toContain('no model "absent"')
    expect(message).toContain('"fake-model"')
  })

  it.each(['vllm', 'sglang'] as const)('refuses a %s server with another tokenizer', async (kind) => {
    const stub = await stubOf({ kind, tokenize: (text) => tokenize(text).toReversed() })
    const { code, message } = await refusal(async () => openEngine(stub, { folder: await temporaryFolder() }))
    expect([code, message]).toEqual(['invalid_request', expect.stringContaining('has another tokenizer')])
  })

  it('clears away what an earlier worker left, and nothing of others', async () => {
    const stub = await stubOf()
    const folder = await temporaryFolder()
    for (const name of [remoteName('old'), 'of-somebody-else']) {
      stub.adapters.set(name, '/gone')
      await mkdir(join(folder, name))
    }
    await writeFile(join(folder, `${remoteName('half')}.part`), 'unfinished')
    await openEngine(stub, { folder })
    expect([...stub.adapters.keys()]).toEqual(['of-somebody-else'])
    expect(await readdir(folder)).toEqual(['of-somebody-else'])
  })
})

describe('the slots of a server', () => {
  it('are filled from a folder by the path that the server sees', async () => {
    const stub = await stubOf()
    const folder = await temporaryFolder()
    const engine = await openEngine(stub, { folder, folderAtServer: `${folder}/../${folder.split('/').at(-1)}/` })
    await engine.loadAdapter(0 as SlotIndex, packed('a'))
    expect(stub.adapters.get(remoteName('a'))).toBe(`${folder}/../${folder.split('/').at(-1)}/${remoteName('a')}`)
  })

  it('refuse a load by a path that the server does not have', async () => {
    const stub = await stubOf()
    const engine = await openEngine(stub, { folder: await temporaryFolder(), folderAtServer: '/elsewhere' })
    const { code, message } = await refusal(() => engine.loadAdapter(0 as SlotIndex, packed('a')))
    expect([code, message]).toEqual(['adapter_unavailable', expect.stringContaining('No adapter found for /elsewhere/')])
  })

  it('say what to start vLLM with where it takes no adapters', async () => {
    const stub = await stubOf()
    const engine = await openEngine(stub, { folder: await temporaryFolder() })
    const { port } = stub
    await stub.stop()
    const server = createServer((_, response) => response.writeHead(404, {}).end('{"detail":"Not Found"}'))
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { message } = await refusal(() => engine.loadAdapter(0 as SlotIndex, packed('a')))
    expect(message).toContain('VLLM_ALLOW_RUNTIME_LORA_UPDATING')
  })

  it('make sure of a name whose load ended unknown before they use it again', async () => {
    const stub = await stubOf()
    const engine = await openEngine(stub, { folder: await temporaryFolder() })
    stub.loadRefusal = 'out of memory'
    await refusal(() => engine.loadAdapter(0 as SlotIndex, packed('a')))
    engine.clearSlot(0 as SlotIndex)
    // The server had taken it after all, and the answer was lost on the way.
    stub.loadRefusal = undefined
    stub.adapters.set(remoteName('a'), '/somewhere')
    await engine.loadAdapter(1 as SlotIndex, packed('a'))
    expect(stub.unloads).toEqual([remoteName('a')])
    expect(stub.loads).toEqual([remoteName('a')])
  })

  it('leave the server and the folder empty at the end', async () => {
    const stub = await stubOf()
    const folder = await temporaryFolder()
    const engine = await openEngine(stub, { folder })
    await engine.loadAdapter(0 as SlotIndex, packed('a'))
    await engine.loadAdapter(1 as SlotIndex, packed('b'))
    await engine.close()
    expect([...stub.adapters.keys()]).toEqual([])
    expect(await readdir(folder)).toEqual([])
  })
})
