import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseHubReference } from '@quiver/cache/hub'
import type { Progress } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { downloadFromHub, findLocalCopy, type HubSource } from '../../../packages/worker/src/model/hub-download.ts'
import { openLocalModel } from '../../../packages/worker/src/model/loaded-model.ts'
import type { HubDeps } from '../../../packages/worker/src/model/repo-download.ts'
import { type HubFault, type HubRepo, type HubServer, startHub } from '../../support/hub-server.ts'
import { SkippingTimers } from '../../support/skipping-timers.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { tinyModel } from '../../support/tiny-models.ts'

const FIRST = 'a'.repeat(40)
const SECOND = 'b'.repeat(40)
const reference = { repo: 'acme/tiny', revision: 'main' }

interface Setup {
  readonly hub: HubServer
  readonly repo: HubRepo
  readonly source: HubSource
  readonly deps: HubDeps
  readonly timers: SkippingTimers
  readonly progress: Progress[]
  readonly stop: AbortController
}

async function setUp(
  options: { model?: string; repo?: Partial<HubRepo>; token?: string; cacheDir?: string } = {},
): Promise<Setup> {
  const repo: HubRepo = {
    commits: { [FIRST]: tinyModel(options.model ?? 'llama-bf16-sharded').path },
    refs: { main: FIRST },
    ...options.repo,
  }
  const hub = await startHub({ 'acme/tiny': repo })
  const timers = new SkippingTimers()
  const progress: Progress[] = []
  const stop = new AbortController()
  let ids = 0
  return {
    hub,
    repo,
    timers,
    progress,
    stop,
    source: {
      modelsDir: await temporaryFolder(),
      hub: {
        endpoint: hub.endpoint,
        ...(options.token === undefined ? {} : { token: options.token }),
        ...(options.cacheDir === undefined ? {} : { cacheDir: options.cacheDir }),
      },
    },
    deps: { timers, signal: stop.signal, uniqueId: () => String(++ids), fetch, onProgress: (step) => progress.push(step) },
  }
}

/** Answers the first `times` requests for the content of `file` with a fault; the probe for its size is left alone. */
function failContent(hub: HubServer, options: { times: number; fault: HubFault }): void {
  let left = options.times
  hub.fault = ({ origin, range }) => {
    if (origin !== 'cdn' || range === 'bytes=0-0' || left === 0) return undefined
    left -= 1
    return options.fault
  }
}

async function expectUsable(folder: string, model = 'llama-bf16-sharded'): Promise<void> {
  const loaded = await openLocalModel({ path: folder, id: 'x' })
  const values = await loaded.weights.read('model.embed_tokens.weight')
  await loaded.weights.close()
  const original = await tinyModel(model).open()
  expect(values).toEqual(await original.weights.read('model.embed_tokens.weight'))
  await original.weights.close()
}

describe('a download', () => {
  it('brings the files that the model needs, verified, under its commit, and says how far it is', async () => {
    const { source, deps, progress, hub } = await setUp()
    const { path: folder, sha } = await downloadFromHub(reference, source, deps)
    expect(folder).toBe(path.join(source.modelsDir, 'hub', 'acme--tiny', FIRST))
    expect((await readdir(folder)).toSorted()).toEqual([
      'config.json',
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
      'quiver-model.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    expect(sha).toMatch(/^[0-9a-f]{64}$/)
    await expectUsable(folder)
    expect(hub.requests.some((request) => request.path.includes('logits.bin'))).toBe(false)
    const last = progress.at(-1)
    expect(last).toMatchObject({ phase: 'download', label: 'acme/tiny', unit: 'bytes' })
    expect(last?.done).toBe(last?.total)
    expect(progress.every((step, i) => step.done >= (progress[i - 1]?.done ?? 0) || step.total !== progress[i - 1]?.total)).toBe(
      true,
    )
  })

  it('asks the hub once and downloads nothing when the commit is here already', async () => {
    const { source, deps, hub } = await setUp()
    const first = await downloadFromHub(reference, source, deps)
    hub.requests.length = 0
    expect(await downloadFromHub(reference, source, deps)).toEqual(first)
    expect(hub.requests.map((request) => request.path)).toEqual(['/api/models/acme/tiny/revision/main'])
    hub.requests.length = 0
    expect(await downloadFromHub({ ...reference, revision: FIRST }, source, deps)).toEqual(first)
    expect(hub.requests).toEqual([])
  })

  it.each(['../../../stolen.gguf', '/tmp/stolen.gguf', 'sub/stolen.gguf', '..\\stolen.gguf', '..'])(
    'takes no file that the hub lists as %s',
    async (listed) => {
      const folder = await temporaryFolder()
      await writeFile(path.join(folder, 'model.gguf'), 'x'.repeat(100))
      const { source, deps, hub } = await setUp({ repo: { commits: { [FIRST]: folder }, listedAs: () => listed } })
      await expect(downloadFromHub(reference, source, deps)).rejects.toThrow('acme/tiny holds no model that can be read')
      expect(hub.requests.some((request) => request.path.includes('/resolve/'))).toBe(false)
    },
  )

  it('follows a branch to its new commit', async () => {
    const { source, deps, repo } = await setUp({
      repo: { commits: { [FIRST]: tinyModel('qwen2-bf16').path, [SECOND]: tinyModel('qwen3-bf16').path }, refs: { main: FIRST } },
    })
    const first = await downloadFromHub(reference, source, deps)
    repo.refs['main'] = SECOND
    const second = await downloadFromHub(reference, source, deps)
    expect(path.basename(second.path)).toBe(SECOND)
    expect(second.sha).not.toBe(first.sha)
  })

  it('takes the only GGUF file of a repository without safetensors', async () => {
    const folder = path.dirname(tinyModel('gguf-qwen2-q8_0').path)
    const { source, deps } = await setUp({ repo: { commits: { [FIRST]: folder } } })
    const { path: location } = await downloadFromHub(reference, source, deps)
    expect((await readdir(location)).toSorted()).toEqual(['model.gguf', 'quiver-model.json'])
    await expectUsable(location, 'gguf-qwen2-q8_0')
  })

  it('sends the token to the hub and to nobody else', async () => {
    const { source, deps, hub } = await setUp({ repo: { access: 'private' }, token: 'hf_test_token' })
    await downloadFromHub(reference, source, deps)
    expect(
      hub.requests
        .filter(({ origin }) => origin === 'hub')
        .every(({ authorization }) => authorization === 'Bearer hf_test_token'),
    ).toBe(true)
    const elsewhere = hub.requests.filter(({ origin }) => origin === 'cdn')
    expect(elsewhere.length).toBeGreaterThan(0)
    expect(elsewhere.every(({ authorization }) => authorization === undefined)).toBe(true)
  })

  it('lets one of two starts download and both use the result', async () => {
    const { source, deps: base, hub } = await setUp({ model: 'qwen2-bf16' })
    // Above the pause between two renewals of the lock: its owner has to renew as fast as the other polls.
    const deps = { ...base, timers: new SkippingTimers(10_001) }
    const [one, two] = await Promise.all([downloadFromHub(reference, source, deps), downloadFromHub(reference, source, deps)])
    expect(one).toEqual(two)
    expect(hub.requests.filter(({ origin, range }) => origin === 'cdn' && range !== 'bytes=0-0')).toHaveLength(1)
  })
})

describe('when something breaks', () => {
  it('resumes after a cut at the byte where it stopped', async () => {
    const { source, deps, hub, timers } = await setUp({ model: 'qwen2-bf16' })
    failContent(hub, { times: 2, fault: { kind: 'cut', afterBytes: 30_000 } })
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await expectUsable(folder, 'qwen2-bf16')
    const resumed = hub.requests.filter(
      ({ origin, range }) => origin === 'cdn' && range !== undefined && !range.startsWith('bytes=0-'),
    )
    expect(resumed.length).toBeGreaterThan(0)
    expect(timers.delays).toContain(500)
  })

  it('resumes what a killed process left', async () => {
    const { source, deps, hub } = await setUp({ model: 'qwen2-bf16' })
    const partial = path.join(source.modelsDir, 'hub', 'acme--tiny', `${FIRST}.partial`)
    await mkdir(partial, { recursive: true })
    const whole = await readFile(path.join(tinyModel('qwen2-bf16').path, 'model.safetensors'))
    await writeFile(path.join(partial, 'model.safetensors.part'), whole.subarray(0, 50_000))
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await expectUsable(folder, 'qwen2-bf16')
    expect(hub.requests.some(({ range }) => range === `bytes=50000-${whole.length - 1}`)).toBe(true)
  })

  it('fetches a file anew when what a killed process left does not fit', async () => {
    const { source, deps } = await setUp({ model: 'qwen2-bf16' })
    const partial = path.join(source.modelsDir, 'hub', 'acme--tiny', `${FIRST}.partial`)
    await mkdir(partial, { recursive: true })
    await writeFile(path.join(partial, 'model.safetensors.part'), Buffer.alloc(70_000, 1))
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await expectUsable(folder, 'qwen2-bf16')
  })

  it('begins again with a server that cannot resume', async () => {
    const { source, deps, hub } = await setUp({ model: 'qwen2-bf16' })
    let cuts = 1
    hub.fault = ({ origin, range }) => {
      if (origin !== 'cdn' || range === 'bytes=0-0') return undefined
      if (cuts-- > 0) return { kind: 'cut', afterBytes: 30_000 }
      return { kind: 'no-range' }
    }
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await expectUsable(folder, 'qwen2-bf16')
  })

  it('never uses wrong bytes: it tries again, then says so', async () => {
    const { source, deps, hub } = await setUp({ model: 'qwen2-bf16' })
    failContent(hub, { times: 1, fault: { kind: 'wrong-bytes' } })
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await expectUsable(folder, 'qwen2-bf16')

    await rm(source.modelsDir, { recursive: true })
    failContent(hub, { times: 99, fault: { kind: 'wrong-bytes' } })
    await expect(downloadFromHub(reference, source, deps)).rejects.toThrow(
      /model\.safetensors of acme\/tiny does not have the sha256 digest [0-9a-f]{64} that the hub lists: it was not used/,
    )
    expect(await findLocalCopy(reference, source)).toBeUndefined()
  })

  it('waits longer each time while the hub answers 500, and gives up in the end', async () => {
    const { source, deps, hub, timers } = await setUp()
    hub.fault = () => ({ kind: 'status', status: 500 })
    await expect(downloadFromHub(reference, source, deps)).rejects.toMatchObject({
      code: 'source_unavailable',
      message: expect.stringContaining('the hub answered 500'),
    })
    expect(timers.delays).toEqual([500, 1000, 2000, 4000])
  })

  it('survives a hub that answers 503 to the first request for everything', async () => {
    const { source, deps, hub } = await setUp({ model: 'qwen2-bf16' })
    const seen = new Set<string>()
    hub.fault = ({ path: asked }) => {
      if (seen.has(asked)) return undefined
      seen.add(asked)
      return { kind: 'status', status: 503 }
    }
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await expectUsable(folder, 'qwen2-bf16')
  })

  it('takes a connection that brings nothing for a minute for broken', async () => {
    const { source, deps, hub, timers } = await setUp({ model: 'qwen2-bf16' })
    failContent(hub, { times: 1, fault: { kind: 'stall', afterBytes: 1000 } })
    const download = downloadFromHub(reference, source, deps)
    const watch = setInterval(
      () => hub.requests.some(({ origin, range }) => origin === 'cdn' && range !== 'bytes=0-0') && timers.expire(),
      20,
    )
    const { path: folder } = await download
    clearInterval(watch)
    await expectUsable(folder, 'qwen2-bf16')
  })

  it('stops at once when the start is called off, and leaves nothing that looks whole', async () => {
    const { source, deps, hub, stop } = await setUp({ model: 'qwen2-bf16' })
    hub.fault = ({ origin, range }) => {
      if (origin === 'cdn' && range !== 'bytes=0-0') setImmediate(() => stop.abort())
      return origin === 'cdn' && range !== 'bytes=0-0' ? { kind: 'stall', afterBytes: 1000 } : undefined
    }
    await expect(downloadFromHub(reference, source, deps)).rejects.toMatchObject({ code: 'client_closed' })
    expect(await findLocalCopy(reference, source)).toBeUndefined()
  })

  it('refuses at once what another attempt cannot mend', async () => {
    const unknown = await setUp()
    await expect(downloadFromHub({ repo: 'acme/other', revision: 'main' }, unknown.source, unknown.deps)).rejects.toMatchObject({
      code: 'unauthenticated',
      message: expect.stringMatching(/acme\/other at main .* does not exist or is private.*HF_TOKEN/),
    })
    await expect(downloadFromHub({ repo: 'acme/tiny', revision: 'v9' }, unknown.source, unknown.deps)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('acme/tiny at v9'),
    })
    const gated = await setUp({ repo: { access: 'gated' } })
    await expect(downloadFromHub(reference, gated.source, gated.deps)).rejects.toMatchObject({
      code: 'forbidden',
      message: expect.stringContaining("Accept the model's terms"),
    })
    expect(unknown.timers.delays.filter((delay) => delay < 10_000)).toEqual([])
  })
})

describe('what cannot be served is refused before anything large is fetched', () => {
  async function withFiles(names: readonly string[]): Promise<Setup> {
    const folder = await temporaryFolder()
    for (const name of names) await writeFile(path.join(folder, name), '{}')
    return await setUp({ repo: { commits: { [FIRST]: folder } } })
  }
  it.each([
    [
      'no weights',
      ['config.json', 'tokenizer.json', 'pytorch_model.bin'],
      /holds no model that can be read: neither config\.json with safetensors/,
    ],
    ['no tokenizer', ['config.json', 'model.safetensors'], /has no tokenizer\.json/],
    ['several GGUF files', ['a.gguf', 'b.gguf'], /holds 2 GGUF files \(a\.gguf, b\.gguf\): download one and give its path/],
  ])('%s', async (_what, names, message) => {
    const { source, deps, hub } = await withFiles(names)
    await expect(downloadFromHub(reference, source, deps)).rejects.toThrow(message)
    expect(hub.requests.some((request) => request.path.includes('/resolve/'))).toBe(false)
  })

  it('a shard that the index names and the repository lacks', async () => {
    const folder = path.join(await temporaryFolder(), 'm')
    await cp(tinyModel('llama-bf16-sharded').path, folder, { recursive: true })
    await rm(path.join(folder, 'model-00002-of-00003.safetensors'))
    const { source, deps } = await setUp({ repo: { commits: { [FIRST]: folder } } })
    await expect(downloadFromHub(reference, source, deps)).rejects.toThrow(
      /names model-00002-of-00003\.safetensors, which is not there/,
    )
  })
})

describe('what is on this machine', () => {
  it('serves when the hub is out of reach', async () => {
    const { source, deps, hub } = await setUp()
    const first = await downloadFromHub(reference, source, deps)
    await hub.close()
    expect(await downloadFromHub(reference, source, deps)).toEqual(first)
  })

  it('serves when the hub does not answer in time', async () => {
    const { source, deps, timers } = await setUp()
    const first = await downloadFromHub(reference, source, deps)
    const silent: typeof fetch = (_url, init) =>
      new Promise((_resolve, reject) => {
        init?.signal?.addEventListener('abort', () => reject(init.signal?.reason))
        setImmediate(() => timers.expire())
      })
    expect(await downloadFromHub(reference, source, { ...deps, fetch: silent })).toEqual(first)
  })

  it('is fetched again when a file was cut or a hand removed one', async () => {
    const { source, deps } = await setUp()
    const { path: folder } = await downloadFromHub(reference, source, deps)
    await writeFile(path.join(folder, 'tokenizer.json'), '{}')
    await downloadFromHub(reference, source, deps)
    await rm(path.join(folder, 'model-00001-of-00003.safetensors'))
    await downloadFromHub(reference, source, deps)
    await expectUsable(folder)
  })

  it('is taken from the cache of huggingface_hub when that is complete', async () => {
    const cacheDir = await temporaryFolder()
    const repoCache = path.join(cacheDir, 'models--acme--tiny')
    const snapshot = path.join(repoCache, 'snapshots', FIRST)
    await cp(tinyModel('llama-bf16-sharded').path, snapshot, { recursive: true })
    await mkdir(path.join(repoCache, 'refs'))
    await writeFile(path.join(repoCache, 'refs', 'main'), FIRST)
    const { source, deps, hub } = await setUp({ cacheDir })
    expect((await downloadFromHub(reference, source, deps)).path).toBe(snapshot)
    await rm(path.join(snapshot, 'model-00003-of-00003.safetensors'))
    expect((await downloadFromHub(reference, source, deps)).path).not.toBe(snapshot)
    await hub.close()
    expect((await downloadFromHub(reference, source, deps)).path).not.toBe(snapshot)
  })
})

describe('references', () => {
  it.each([
    ['org/name', { repo: 'org/name', revision: 'main' }],
    ['org/name@v1.0', { repo: 'org/name', revision: 'v1.0' }],
    ['org/name@refs/pr/1', { repo: 'org/name', revision: 'refs/pr/1' }],
    ['name', undefined],
    ['a/b/c', undefined],
    ['../b', undefined],
    ['a/..b', undefined],
    ['a/b@../c', undefined],
    ['a/b@', undefined],
    ['a b/c', undefined],
  ])('%s', (text, expected) => {
    expect(parseHubReference(text)).toEqual(expected)
  })
})
