/** What runs sequences, by the kind of engine. */
import type { SamplingParameters } from '@quiver/protocol'
import { BatchLoop, type BatchLoopDeps } from './batch-loop.ts'
import type { Engine } from './engine/engine.ts'
import type { StreamingEngine } from './engine/streaming-engine.ts'
import type { RunServiceDeps } from './run-service.ts'
import type { Runner } from './runner.ts'
import { distantSampler } from './sampling/distant-sampler.ts'
import { createSampler, type SamplerDeps } from './sampling/sampler.ts'
import { StreamLoop } from './stream-loop.ts'
import type { WorkerConfig } from './worker-config.ts'

type AnyEngine = Engine | StreamingEngine
type RunnerDeps = Omit<BatchLoopDeps, 'engine'> & { readonly engine: AnyEngine }

export function openRunner(config: WorkerConfig, deps: RunnerDeps): Runner {
  const { engine } = deps
  const { speculation = 0, chunkSizing, reservedShare = 0 } = config
  if (!('step' in engine)) return new StreamLoop({ ...deps, engine, reservedShare })
  return new BatchLoop({ ...deps, engine, speculation, reservedShare, keepsPace: chunkSizing === 'measured' })
}

/** What a run service does otherwise where the engine chooses the tokens itself. */
export function choosing(engine: AnyEngine, deps: SamplerDeps): Pick<RunServiceDeps, 'refuse' | 'createSampler'> {
  const create = (parameters: SamplingParameters, promptIds: readonly number[]) => createSampler(parameters, promptIds, deps)
  if ('step' in engine) return { createSampler: create }
  return {
    refuse: (request) => engine.refuse(request),
    createSampler: (...sampled) => distantSampler(create(...sampled), engine),
  }
}
