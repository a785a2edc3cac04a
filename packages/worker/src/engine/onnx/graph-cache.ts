import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { PackedDtype } from '@quiver/cache'
import { builtFolder } from './built-folder.ts'
import { sealFolder } from './folder-seal.ts'
import { buildGraph } from './graph-builder.ts'
import type { LoraForm } from './lora-form.ts'
import type { OnnxEngineOptions } from './onnx-engine.ts'
import { WeightFile } from './weight-file.ts'

/** Grows with every change of the graph or of how weights are stored, so that an old cache is never used. */
const GRAPH_VERSION = 8
const MODEL = 'model.onnx'
const WEIGHTS = 'weights.bin'

/**
 * The path of the model's graph, built on first use and again when what is there is damaged (built-folder.ts). Graphs that
 * older versions built for the same model are removed.
 */
export async function cachedGraph(options: OnnxEngineOptions, packedDtype: PackedDtype): Promise<string> {
  const { model, dtype, capacity, cacheDir, operator } = options
  const form: LoraForm = operator === undefined ? 'standard' : 'operator'
  const base = `${model.sha.slice(0, 32)}-${dtype}-${capacity.totalTokens}`
  const stems = { standard: `${base}-v`, operator: `${base}-lora-v` }
  const folder = await builtFolder({
    cacheDir,
    name: `${stems[form]}${GRAPH_VERSION}`,
    isOutdated: (name) => Object.values(stems).some((stem) => isOutdated(name, stem)),
    build: (building) => buildInto(building, options, packedDtype, form),
  })
  return join(folder, MODEL)
}

async function buildInto(folder: string, options: OnnxEngineOptions, packedDtype: PackedDtype, lora: LoraForm): Promise<void> {
  const { model, dtype, capacity, onProgress, signal } = options
  const file = await WeightFile.create(join(folder, WEIGHTS))
  let encoded: Uint8Array
  try {
    encoded = await buildGraph({
      spec: model.spec,
      weights: model.weights,
      dtype,
      lora,
      packedDtype,
      // The library that applies adapters also attends, but not on a device.
      attention: options.device === undefined ? lora : 'standard',
      // And multiplies with 8-bit weights, normalises and gates.
      products: options.device === undefined ? lora : 'standard',
      rows: options.device === undefined ? lora : 'standard',
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
  await sealFolder(folder, [MODEL, WEIGHTS])
}

function isOutdated(name: string, stem: string): boolean {
  return name.startsWith(stem) && Number(name.slice(stem.length)) < GRAPH_VERSION
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
