import { mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { PackedDtype } from '@quiver/cache'
import { buildGraph } from './graph-builder.ts'
import { isSealedGraph, sealGraph } from './graph-seal.ts'
import type { OnnxEngineOptions } from './onnx-engine.ts'
import { WeightFile } from './weight-file.ts'

/** Grows with every change of the graph or of how weights are stored, so that an old cache is never used. */
const GRAPH_VERSION = 5
const MODEL = 'model.onnx'
const WEIGHTS = 'weights.bin'
/** Prefix of folders being built, followed by the builder's process id. */
const BUILDING = '.building-'

/**
 * The path of the model's graph, built on first use and again when what is there is damaged. A graph is built in a folder
 * of its own that gets its name only when it is complete and on disk; of two builders the second finds the first's and
 * uses it. Graphs that older versions built for the same model are removed.
 */
export async function cachedGraph(options: OnnxEngineOptions, packedDtype: PackedDtype): Promise<string> {
  const { model, dtype, capacity, cacheDir } = options
  const stem = `${model.sha.slice(0, 32)}-${dtype}-${capacity.totalTokens}-v`
  const folder = join(cacheDir, `${stem}${GRAPH_VERSION}`)
  const path = join(folder, MODEL)
  if (await isSealedGraph(folder)) return path
  await mkdir(cacheDir, { recursive: true })
  await sweep(cacheDir, stem)
  const building = await mkdtemp(join(cacheDir, `${BUILDING}${process.pid}-`))
  try {
    await buildInto(building, options, packedDtype)
    await putInPlace(building, folder)
    return path
  } finally {
    await rm(building, { recursive: true, force: true })
  }
}

async function buildInto(folder: string, options: OnnxEngineOptions, packedDtype: PackedDtype): Promise<void> {
  const { model, dtype, capacity, onProgress, signal } = options
  const file = await WeightFile.create(join(folder, WEIGHTS))
  let encoded: Uint8Array
  try {
    encoded = await buildGraph({
      spec: model.spec,
      weights: model.weights,
      dtype,
      packedDtype,
      positions: capacity.totalTokens,
      file,
      dataFileName: WEIGHTS,
      onProgress,
      signal,
    })
    await file.finish()
  } catch (error) {
    await file.abort()
    throw error
  }
  await writeDurably(join(folder, MODEL), encoded)
  await sealGraph(folder, [MODEL, WEIGHTS])
}

/** Gives a finished folder its name. What stands there is another builder's, and as good, or damaged, and goes. */
async function putInPlace(building: string, folder: string): Promise<void> {
  try {
    await rename(building, folder)
  } catch (error) {
    if (await isSealedGraph(folder)) return
    if (!isNotEmpty(error)) throw error
    await rm(folder, { recursive: true, force: true })
    await rename(building, folder)
  }
}

function isNotEmpty(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOTEMPTY' || code === 'EEXIST'
}

/** Removes what builders left that are not running any more, and what older versions built for this model. */
async function sweep(cacheDir: string, stem: string): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    if (isAbandoned(name) || isOutdated(name, stem)) await rm(join(cacheDir, name), { recursive: true, force: true })
  }
}

function isAbandoned(name: string): boolean {
  const pid = name.startsWith(BUILDING) ? Number.parseInt(name.slice(BUILDING.length), 10) : Number.NaN
  return Number.isInteger(pid) && !isRunning(pid)
}

function isOutdated(name: string, stem: string): boolean {
  return name.startsWith(stem) && Number(name.slice(stem.length)) < GRAPH_VERSION
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it runs as somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}
