import { mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { PackedDtype } from '@quiver/cache'
import { buildGraph } from './graph-builder.ts'
import type { OnnxEngineOptions } from './onnx-engine.ts'
import { WeightFile } from './weight-file.ts'

/** Grows with every change of the graph or of how weights are stored, so that an old cache is never used. */
const GRAPH_VERSION = 3
const MODEL = 'model.onnx'
const WEIGHTS = 'weights.bin'
/** Prefix of folders being built, followed by the builder's process id. */
const BUILDING = '.building-'

/**
 * The path of the model's graph, built on first use. A graph is built in a folder of its own that gets its name only when
 * it is complete and on disk; of two builders the second finds the first's and uses it.
 */
export async function cachedGraph(options: OnnxEngineOptions, packedDtype: PackedDtype): Promise<string> {
  const { model, dtype, capacity, cacheDir } = options
  const name = `${model.sha.slice(0, 32)}-${dtype}-${capacity.totalTokens}-v${GRAPH_VERSION}`
  const folder = join(cacheDir, name)
  const path = join(folder, MODEL)
  if (await exists(path)) return path
  await mkdir(cacheDir, { recursive: true })
  await sweep(cacheDir)
  const building = await mkdtemp(join(cacheDir, `${BUILDING}${process.pid}-`))
  try {
    const file = await WeightFile.create(join(building, WEIGHTS))
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
        onProgress: options.onProgress,
        signal: options.signal,
      })
      await file.finish()
    } catch (error) {
      await file.abort()
      throw error
    }
    await writeDurably(join(building, MODEL), encoded)
    await rename(building, folder).catch(async (error: NodeJS.ErrnoException) => {
      if (!(await exists(path))) throw error
    })
    return path
  } finally {
    await rm(building, { recursive: true, force: true })
  }
}

/** Removes what builders left that are not running any more. */
async function sweep(cacheDir: string): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const pid = name.startsWith(BUILDING) ? Number.parseInt(name.slice(BUILDING.length), 10) : Number.NaN
    if (Number.isInteger(pid) && !isRunning(pid)) await rm(join(cacheDir, name), { recursive: true, force: true })
  }
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

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
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
