import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { cachedGraph } from '../../../../packages/worker/src/engine/onnx/graph-cache.ts'
import type { OnnxEngineOptions } from '../../../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { testCapacity } from '../../../support/engine-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

/** Above every process id that Linux gives out. */
const NO_PROCESS = 2 ** 22 + 1

let cacheDir: string
beforeEach(async () => {
  cacheDir = await mkdtemp(path.join(tmpdir(), 'quiver-graphs-'))
})
afterEach(() => rm(cacheDir, { recursive: true, force: true }))

async function options(change: Partial<OnnxEngineOptions> = {}): Promise<OnnxEngineOptions> {
  const model = await tinyModel('llama-fp32-tied').open()
  onTestFinished(() => model.weights.close())
  return { model, dtype: 'int8', capacity: testCapacity, cacheDir, threads: 1, onProgress: () => {}, ...change }
}

test('builds a graph once and finds it afterwards', async () => {
  const steps: number[] = []
  const build = await options({ onProgress: ({ done }) => steps.push(done) })
  const first = await cachedGraph(build, 'f16')
  expect(steps.length).toBeGreaterThan(1)
  steps.length = 0
  expect(await cachedGraph(build, 'f16')).toBe(first)
  expect(steps).toEqual([])
})

test('keeps graphs of different element types and context lengths apart', async () => {
  const paths = [
    await cachedGraph(await options(), 'f16'),
    await cachedGraph(await options({ dtype: 'fp32' }), 'f32'),
    await cachedGraph(await options({ capacity: { ...testCapacity, totalTokens: 32 } }), 'f16'),
  ]
  expect(new Set(paths).size).toBe(3)
})

test('two builders at once end with one whole graph and nothing besides', async () => {
  const [first, second] = await Promise.all([cachedGraph(await options(), 'f16'), cachedGraph(await options(), 'f16')])
  expect(first).toBe(second)
  expect(await readdir(cacheDir)).toHaveLength(1)
})

test('a build that fails leaves nothing behind', async () => {
  const { model } = await options()
  const broken = { ...model, weights: { ...model.weights, read: () => Promise.reject(new Error('the disk is gone')) } }
  await expect(cachedGraph(await options({ model: broken }), 'f16')).rejects.toThrow('the disk is gone')
  expect(await readdir(cacheDir)).toEqual([])
})

test('a build that is called off stops after the layer in hand and leaves nothing behind', async () => {
  const stop = new AbortController()
  const layers: number[] = []
  const onProgress = ({ done }: { done: number }): void => {
    layers.push(done)
    stop.abort()
  }
  const build = cachedGraph(await options({ onProgress, signal: stop.signal }), 'f16')
  await expect(build).rejects.toMatchObject({ code: 'client_closed' })
  expect(layers).toEqual([0])
  expect(await readdir(cacheDir)).toEqual([])
})

test('sweeps what a killed builder left and leaves a living one alone', async () => {
  for (const pid of [NO_PROCESS, process.pid]) {
    await mkdir(path.join(cacheDir, `.building-${pid}-abc`))
    await writeFile(path.join(cacheDir, `.building-${pid}-abc`, 'weights.bin'), 'half')
  }
  await cachedGraph(await options(), 'f16')
  const names = await readdir(cacheDir)
  expect(names).toHaveLength(2)
  expect(names).toContain(`.building-${process.pid}-abc`)
})

test.each([
  ['weights.bin', 'cut short', (whole: Buffer) => whole.subarray(0, whole.length - 7)],
  ['weights.bin', 'with one bit flipped', (whole: Buffer) => whole.with(whole.length >> 1, (whole[whole.length >> 1] ?? 0) ^ 1)],
  ['model.onnx', 'cut short', (whole: Buffer) => whole.subarray(0, 100)],
  ['seal.json', 'emptied', () => Buffer.alloc(0)],
])('builds a graph anew whose %s is found %s', async (name, _, damage) => {
  const graph = await cachedGraph(await options(), 'f16')
  const file = path.join(path.dirname(graph), name)
  const whole = await readFile(file)
  await writeFile(file, damage(whole))
  expect(await cachedGraph(await options(), 'f16')).toBe(graph)
  expect(Buffer.compare(await readFile(file), whole)).toBe(0)
  expect(await readdir(cacheDir)).toHaveLength(1)
})

test('removes what an older version built for the same model and leaves other models alone', async () => {
  const graph = await cachedGraph(await options(), 'f16')
  const name = path.basename(graph.slice(0, -'/model.onnx'.length))
  await rm(path.join(cacheDir, name), { recursive: true })
  const older = name.replace(/v\d+$/, 'v1')
  for (const folder of [older, `other-${older}`]) await mkdir(path.join(cacheDir, folder))
  await cachedGraph(await options(), 'f16')
  expect((await readdir(cacheDir)).toSorted()).toEqual([name, `other-${older}`].toSorted())
})
