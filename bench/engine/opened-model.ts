import { randomUUID } from 'node:crypto'
import path from 'node:path'
import type { Dtype, LoraMode } from '@quiver/protocol'
import type { FoundDevice } from '../../packages/worker/src/cuda/find-cuda.ts'
import type { Engine } from '../../packages/worker/src/engine/engine.ts'
import { createOnnxEngine } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { type LoadedModel, openModel } from '../../packages/worker/src/model/model-source.ts'
import { createProcessRunner } from '../../packages/worker/src/model/process-runner.ts'
import { holdingTimers } from '../../packages/worker/src/model/sleep.ts'
import type { BenchContext } from '../bench.ts'
import { benchOperator } from '../shared/bench-operator.ts'

export interface EngineShape {
  readonly dtype: Dtype
  readonly slots: number
  readonly maxRank: number
  readonly sequences: number
  /** What applies adapters, where it is not what the settings say. */
  readonly lora?: LoraMode
  /** Absent: this machine's processor. */
  readonly device?: FoundDevice
}

/** What a worker with the default settings has. */
export function servedShape({ config }: BenchContext): EngineShape {
  const { dtype, slots, maxRank, sequences } = config
  return { dtype, slots, maxRank, sequences }
}

/** Opens the bench's model as a worker does, downloading it where it is not cached. */
export function openBenchModel({ config, env, signal, progress }: BenchContext): Promise<LoadedModel> {
  return openModel(
    config.model,
    {
      modelsDir: path.join(config.cache, 'models'),
      hub: {
        ...(config.hubEndpoint === '' ? {} : { endpoint: config.hubEndpoint }),
        ...(config.hubToken === '' ? {} : { token: config.hubToken }),
        cacheDir: path.join(config.hubHome, 'hub'),
      },
      python: config.python,
      homeDir: path.dirname(config.hubHome),
    },
    {
      timers: holdingTimers,
      runProcess: createProcessRunner(env),
      uniqueId: randomUUID,
      fetch,
      signal,
      onProgress: ({ phase, label, done }) => {
        if (done === 0) progress(`${phase} ${label}`)
      },
    },
  )
}

/** Makes an engine of the model and closes the model's files; the engine is closed by the clean-up where nobody does before. */
export async function openEngine(
  context: BenchContext,
  shape: EngineShape,
): Promise<{ engine: Engine; model: LoadedModel; close(): Promise<void> }> {
  const { config, cleanUp, progress } = context
  const operator = shape.device?.operator ?? (await benchOperator(context, shape.lora ?? config.lora))
  const model = await openBenchModel(context)
  try {
    const engine = await createOnnxEngine({
      model,
      dtype: shape.dtype,
      capacity: {
        sequences: shape.sequences,
        totalTokens: Math.min(config.totalTokens, model.spec.maxPositions),
        slots: shape.slots,
        maxRank: shape.maxRank,
        chunkTokens: config.chunkTokens,
      },
      cacheDir: path.join(config.cache, 'graphs'),
      threads: config.threads,
      operator,
      device: shape.device?.backend,
      onProgress: ({ phase, label, done }) => {
        if (done === 0 && phase === 'convert') progress(`${phase} ${label} to ${shape.dtype}`)
      },
    })
    const close = cleanUp.add({ undo: () => engine.close(), undoNow: () => {} })
    return { engine, model, close }
  } finally {
    await model.weights.close()
  }
}
