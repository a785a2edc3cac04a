import path from 'node:path'
import { type AdapterCache, createAdapterCache } from '@quiver/cache'
import { openObjectStore, type WatchedStore } from '@quiver/cache/store'
import { cudaFolder } from './cuda/cuda-install.ts'
import { hasLibrary, missingGpu, runtimeVersion } from './cuda/driver.ts'
import { type FoundDevice, findDevice } from './cuda/find-cuda.ts'
import type { Engine } from './engine/engine.ts'
import { createOnnxEngine, packedDtype } from './engine/onnx/onnx-engine.ts'
import { findOperator } from './engine/onnx/operator-library.ts'
import { createRemoteEngine, type RemoteConfig } from './engine/remote/remote-engine.ts'
import type { StreamingEngine } from './engine/streaming-engine.ts'
import { type LoadedModel, openModel } from './model/model-source.ts'
import { baseLayout, type ModelSpec } from './model/model-spec.ts'
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
  createEngine(model: LoadedModel, config: WorkerConfig & Partial<FoundDevice>, deps: WorkerDeps): Promise<Engine>
  /** Where the model is computed, and what in. */
  chooseDevice(config: WorkerConfig, deps: WorkerDeps): Promise<FoundDevice>
  /** Opens the server that computes instead. */
  openRemote(remote: RemoteConfig, base: RemoteBase, config: WorkerConfig, deps: WorkerDeps): Promise<StreamingEngine>
  /** Any store of adapters, by its address. */
  openStore(url: string, config: WorkerConfig, deps: WorkerDeps): Promise<WatchedStore>
  createCache(
    engine: Engine | StreamingEngine,
    config: WorkerConfig,
    deps: WorkerDeps,
    store: WatchedStore,
  ): Promise<AdapterCache>
}

/** What a server must agree with. */
export interface RemoteBase {
  readonly spec: ModelSpec
  readonly tokenizer: Tokenizer
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
    const { backend: device } = config
    const operator =
      config.operator ??
      (await findOperator(
        {
          mode: config.lora,
          kernelsDir: config.kernelsDir,
          cacheDir: path.join(config.cacheDir, 'operators'),
          platform,
          arch,
          jobs: config.threads,
        },
        { runProcess, log, onProgress, signal },
      ))
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
      operator,
      device,
      onProgress,
      signal,
    })
  },

  openRemote: (remote, base, { sequences, totalTokens, slots, maxRank }, { fetch, timers, log }) =>
    createRemoteEngine({ ...remote, sequences, totalTokens, slots, maxRank }, { ...base, fetch, timers, log }),

  chooseDevice: ({ device: choice = 'cpu', dtype, lora, cacheDir, kernelsDir }, { log }) =>
    findDevice(
      {
        choice,
        dtype,
        lora,
        cudaDir: cudaFolder(cacheDir),
        kernelsLibrary: path.join(kernelsDir, 'build/cuda/libquiver_lora_cuda.so'),
      },
      { log, missingGpu, hasLibrary, runtimeVersion: runtimeVersion() },
    ),

  openStore: (url, config, { clock, timers, log, uniqueId, drawSeed }) =>
    openObjectStore(url, { s3: config.s3 ?? {} }, { clock, timers, log, uniqueId, random: () => fractionOf(drawSeed()) }),

  createCache: (engine, config, deps, store) => {
    const { clock, log, fetch, timers } = deps
    return createAdapterCache(
      {
        layout: baseLayout(engine.model),
        // A server rounds to its own type; nothing is lost on the way to it.
        dtype: config.remote === undefined ? packedDtype(config.dtype) : 'f32',
        maxRank: engine.capacity.maxRank,
        cacheDir: path.join(config.cacheDir, 'adapters'),
        diskBytes: config.diskBytes,
        ramBytes: config.ramBytes,
        localRoots: config.localRoots,
      },
      {
        clock,
        log,
        device: engine,
        store,
        remote: {
          hub: config.hub,
          buckets: { allowed: config.s3Buckets, open: (bucket) => defaultParts.openStore(`s3://${bucket}`, config, deps) },
          fetch,
          timers,
        },
      },
    )
  },
}

/** The lowest 53 bits of a seed as a number from 0 to below 1. */
function fractionOf(seed: bigint): number {
  return Number(BigInt.asUintN(53, seed)) / 2 ** 53
}
