import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type AdapterCache, createAdapterCache, type ObjectStore } from '@quiver/cache'
import { FolderStore } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import type { Engine } from './engine/engine.ts'
import { findOperator } from './engine/onnx/operator-library.ts'
import { createOnnxEngine, packedDtype } from './engine/onnx/onnx-engine.ts'
import { type LoadedModel, openModel } from './model/model-source.ts'
import { baseLayout } from './model/model-spec.ts'
import { holdingTimers } from './model/sleep.ts'
import { createTokenizer } from './tokenizer/create-tokenizer.ts'
import type { Tokenizer } from './tokenizer/tokenizer.ts'
import type { TokenizerFiles } from './tokenizer/tokenizer-files.ts'
import type { WorkerConfig, WorkerDeps } from './worker-config.ts'

/** How a worker's parts are made. Tests replace the costly ones. */
export interface WorkerParts {
  openModel(config: WorkerConfig, deps: WorkerDeps): Promise<LoadedModel>
  createTokenizer(files: TokenizerFiles, deps: WorkerDeps): Tokenizer
  /** Reads the model's weights; they may be closed when it is done. */
  createEngine(model: LoadedModel, config: WorkerConfig, deps: WorkerDeps): Promise<Engine>
  createCache(engine: Engine, config: WorkerConfig, deps: WorkerDeps): Promise<AdapterCache>
}

/** The real ones. */
export const defaultParts: WorkerParts = {
  openModel: (config, { runProcess, uniqueId, fetch, signal, onProgress }) =>
    openModel(
      config.model,
      { modelsDir: path.join(config.cacheDir, 'models'), hub: config.hub, python: config.python, homeDir: config.homeDir },
      { timers: holdingTimers, runProcess, uniqueId, fetch, signal, onProgress },
    ),

  createTokenizer,

  createEngine: async (model, config, { runProcess, log, onProgress, signal }) => {
    const { platform, arch } = process
    const operator = await findOperator(
      {
        mode: config.lora,
        kernelsDir: config.kernelsDir,
        cacheDir: path.join(config.cacheDir, 'operators'),
        platform,
        arch,
        jobs: config.threads,
      },
      { runProcess, log, onProgress, signal },
    )
    return await createOnnxEngine({
      model,
      dtype: config.dtype,
      capacity: {
        sequences: config.sequences,
        // A context beyond what the model was made for gives no sense.
        totalTokens: Math.min(config.totalTokens, model.spec.maxPositions),
        slots: config.slots,
        maxRank: config.maxRank,
        chunkTokens: config.chunkTokens,
      },
      cacheDir: path.join(config.cacheDir, 'graphs'),
      threads: config.threads,
      onProgress,
      operator,
      signal,
    }),

  createCache: async (engine, config, { clock, log, uniqueId }) =>
    createAdapterCache(
      {
        layout: baseLayout(engine.model),
        dtype: packedDtype(config.dtype),
        maxRank: config.maxRank,
        cacheDir: path.join(config.cacheDir, 'adapters'),
        diskBytes: config.diskBytes,
        ramBytes: config.ramBytes,
        localRoots: config.localRoots,
      },
      { clock, log, device: engine, store: await openStore(config.storeUrl, uniqueId) },
    ),
}

async function openStore(url: string, uniqueId: () => string): Promise<ObjectStore> {
  const parsed = URL.parse(url)
  if (parsed?.protocol === 'file:') return await FolderStore.open(fileURLToPath(parsed), uniqueId)
  throw new ServingError('invalid_request', `object store ${JSON.stringify(url)} is not supported: use file:///path`)
}
