import type { AdapterCache } from '@quiver/cache'
import type { WatchedStore } from '@quiver/cache/store'
import { limits, ServingError, type WorkerInfo } from '@quiver/protocol'
import manifest from '../package.json' with { type: 'json' }
import { AdapterService } from './adapter-service.ts'
import type { BatchState } from './batch-state.ts'
import type { FoundDevice } from './cuda/find-cuda.ts'
import type { Engine } from './engine/engine.ts'
import type { StreamingEngine } from './engine/streaming-engine.ts'
import { EventFeed } from './event-feed.ts'
import { Grammars } from './grammar/grammars.ts'
import { MemoryPressure } from './memory-pressure.ts'
import { baseLayout, type ModelSpec } from './model/model-spec.ts'
import { choosing, openRunner } from './open-runner.ts'
import { PrefixCache } from './prefix/prefix-cache.ts'
import { RunService, type ServiceHealth } from './run-service.ts'
import { Candidates } from './sampling/candidates.ts'
import { createStopSequences } from './sampling/stop-sequences.ts'
import { startServer, type WorkerServer, type WorkerService } from './server.ts'
import { errorEvent } from './step/apply-step.ts'
import { AdapterTemplates } from './tokenizer/adapter-templates.ts'
import { tenantLimits, type WorkerConfig, type WorkerDeps } from './worker-config.ts'
import { workerLoad } from './worker-load.ts'
import { defaultParts, type WorkerParts } from './worker-parts.ts'

export interface Worker {
  /** Where it listens. */
  readonly url: string
  readonly info: WorkerInfo
  health(): ServiceHealth
  state(): BatchState
  /** Tells every gateway to send nothing more, and serves those who have not heard it yet. */
  leave(): void
  /** Takes no new runs; resolves when those it has are over. */
  drain(): Promise<void>
  /** Ends everything after the step in progress and gives everything back. */
  close(): Promise<void>
}

/**
 * Makes a worker that serves one base model: opens the model, builds or loads its graph, opens the adapter cache and serves.
 * It listens from the first moment, so that a taken port is found before minutes of loading, and answers `starting` until
 * it can serve; it is ready when the promise resolves.
 * @throws ServingError saying what could not be opened and what to change; nothing is left open then
 * @example const worker = await createWorker(config, deps); console.log(worker.url)
 */
export async function createWorker(given: WorkerConfig, deps: WorkerDeps): Promise<Worker> {
  const parts = { ...defaultParts, ...deps.parts }
  const service = new StartingService()
  const cleanUp: (() => Promise<void>)[] = []
  try {
    const server = await listen(given, deps, service)
    cleanUp.push(() => server.close())
    const config = { ...given, ...(given.remote === undefined ? await parts.chooseDevice(given, deps) : {}) }
    const base = await openBase({ config, deps, parts }, cleanUp)
    const store = await parts.openStore(config.storeUrl, config, deps)
    const cache = await parts.createCache(base.engine, config, deps, store)
    cleanUp.push(() => cache.close())
    watchMemory({ config, deps, cache }, cleanUp)
    const common = { ...deps, ...base, cache }
    const { engine } = base
    const prefix = 'step' in engine ? prefixCache(config, deps, { engine, sha: base.sha }) : undefined
    const loop = openRunner(config, { ...common, prefix, onChange: () => service.feed?.loadChanged() })
    cleanUp.push(() => loop.close())
    const grammars = new Grammars({ ...common, vocabSize: base.spec.vocabSize, eosTokenIds: loop.eosTokenIds })
    cleanUp.push(async () => grammars.close())
    const templates = new AdapterTemplates({ ...deps, specialTokens: base.tokenizer.specialTokens })
    cleanUp.push(async () => templates.close())
    const info = infoOf(config, deps, base)
    const sampling = { drawSeed: deps.drawSeed, candidates: new Candidates(base.spec.vocabSize) }
    service.runs = new RunService({
      ...common,
      loop,
      prefix,
      ...choosing(engine, sampling),
      createStops: createStopSequences,
      openConstraint: (grammar, signal) => grammars.open(grammar, signal),
      renderTemplate: (conversation, signal) => templates.render(conversation, signal),
      scores: new Float32Array(base.spec.vocabSize),
      vocabSize: base.spec.vocabSize,
      inputTokens: info.limits.inputTokens,
      totalTokens: info.limits.totalTokens,
      waitingLimit: limits.waitingSequences,
      tenantLimits: tenantLimits(config),
      arrivalMs: config.adapterArrivalMs ?? limits.adapterArrivalMs,
    })
    service.adapterService = new AdapterService(cache)
    service.store = store
    // A store that is down keeps nobody from starting: what the disk holds is served, and health says so.
    void store.probe()
    const { runs } = service
    const load = () => workerLoad({ loop, cache, isLeaving: runs.isLeaving, resolving: runs.resolving })
    const feed = new EventFeed({ epoch: info.workerId, timers: deps.timers, cache, load })
    cleanUp.push(async () => feed.close())
    service.feed = feed
    service.description = info
    return {
      url: server.url,
      info,
      health: () => runs.health(),
      state: () => runs.state(),
      leave: () => service.leave(),
      drain: () => runs.drain(),
      close: () => undo(cleanUp),
    }
  } catch (thrown) {
    await undo(cleanUp).catch((failure: unknown) =>
      deps.log('warn', 'a failed start left something open', { cause: String(failure) }),
    )
    throw thrown
  }
}

interface Base {
  readonly engine: Engine | StreamingEngine
  readonly tokenizer: ReturnType<WorkerParts['createTokenizer']>
  readonly spec: ModelSpec
  readonly sha: string
}

async function openBase(
  { config, deps, parts }: { config: WorkerConfig & Partial<FoundDevice>; deps: WorkerDeps; parts: WorkerParts },
  cleanUp: (() => Promise<void>)[],
): Promise<Base> {
  const model = await parts.openModel(config, deps)
  try {
    const { spec, sha } = model
    throwIfCalledOff(deps.signal)
    const tokenizer = parts.createTokenizer(model.tokenizerFiles, deps)
    const engine =
      config.remote === undefined
        ? await parts.createEngine(model, config, deps)
        : await parts.openRemote(config.remote, { spec, tokenizer }, config, deps)
    cleanUp.push(() => engine.close())
    throwIfCalledOff(deps.signal)
    return { engine, tokenizer, spec, sha }
  } finally {
    // The engine has its own copy; the files of the weights are not needed any more.
    await model.weights.close()
  }
}

function watchMemory(
  { config, deps, cache }: { config: WorkerConfig; deps: WorkerDeps; cache: Pick<AdapterCache, 'usage' | 'limitRam'> },
  cleanUp: (() => Promise<void>)[],
): void {
  if (deps.readMemory === undefined) return
  const pressure = new MemoryPressure({
    read: deps.readMemory,
    timers: deps.timers,
    log: deps.log,
    budgetBytes: config.ramBytes,
    tierBytes: () => cache.usage().ram.bytes,
    limit: (bytes) => cache.limitRam(bytes),
  })
  cleanUp.push(async () => pressure.close())
}

/** @returns undefined when there is to be none, when the engine cannot copy, or when not even one block would fit */
function prefixCache(
  config: WorkerConfig,
  deps: WorkerDeps,
  { engine, sha }: { readonly engine: Engine; readonly sha: string },
): PrefixCache | undefined {
  const { prefixCacheBytes: budgetBytes = 0, dtype } = config
  const { prefix: memory, description } = engine
  if (memory === undefined || budgetBytes === 0) return undefined
  const base = JSON.stringify([sha, dtype, description])
  const cache = new PrefixCache({ memory, budgetBytes, base, fatal: (error) => deps.fatal(error) })
  if (cache.hasRoom) return cache
  deps.log('warn', 'the prefix cache is off: its memory holds not one block', { budgetBytes, tokenBytes: memory.tokenBytes })
  return undefined
}

function throwIfCalledOff(signal: AbortSignal): void {
  if (signal.aborted) throw new ServingError('client_closed', 'the start was called off')
}

function listen(config: WorkerConfig, deps: WorkerDeps, service: WorkerService): Promise<WorkerServer> {
  const { host, port, token } = config
  return startServer({ host, port, token, service, timers: deps.timers, log: deps.log })
}

function infoOf(config: WorkerConfig, deps: WorkerDeps, { engine, spec, sha }: Base): WorkerInfo {
  const { capacity, description } = engine
  return {
    workerId: `worker-${deps.uniqueId()}`,
    version: manifest.version,
    model: {
      id: spec.id,
      sha,
      family: spec.family,
      dtype: config.remote === undefined ? config.dtype : 'server',
      vocabSize: spec.vocabSize,
    },
    engine: { ...description },
    layout: baseLayout(spec),
    limits: {
      sequences: capacity.sequences,
      totalTokens: capacity.totalTokens,
      // At least one token must have room to follow.
      inputTokens: Math.min(config.inputTokens ?? capacity.totalTokens, capacity.totalTokens - 1),
      slots: capacity.slots,
      maxRank: capacity.maxRank,
      waiting: limits.waitingSequences,
    },
  }
}

/**
 * Undoes in the reverse order of making: the loop ends before the cache and the engine that it uses, the server last. A step
 * that fails does not keep the others from being undone; the first failure is thrown at the end.
 */
async function undo(steps: (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const step of steps.splice(0).toReversed()) await step().catch((thrown: unknown) => failures.push(thrown))
  if (failures.length > 0) throw failures[0]
}

/** The service behind the server: `starting` until the worker has put its runs in. */
class StartingService implements WorkerService {
  runs: RunService | undefined
  adapterService: AdapterService | undefined
  store: WatchedStore | undefined
  feed: EventFeed | undefined
  description: WorkerInfo | undefined

  health(): ServiceHealth {
    const health = this.runs?.health()
    const store = this.store?.health()
    if (health?.status === 'serving' && store?.status === 'failing') return { ...health, degraded: store.reason }
    return health ?? { status: 'starting', reason: 'the worker is still loading its model' }
  }

  info(): WorkerInfo {
    if (this.description === undefined) throw this.#starting()
    return this.description
  }

  state(): BatchState {
    return this.#ready().state()
  }

  events(): EventFeed {
    if (this.feed === undefined) throw this.#starting()
    return this.feed
  }

  leave(): void {
    this.#ready().leave()
    this.feed?.loadChanged()
    this.feed?.flush()
  }

  start(...[request, sink, signal]: Parameters<WorkerService['start']>): void {
    const served = this.description?.model.id
    if (request.base === undefined || request.base === served) this.#ready().start(request, sink, signal)
    else {
      // A gateway that took this worker for another one; its weights would give another model's answer.
      const message = `this worker serves ${served ?? 'nothing yet'}, not ${request.base}`
      sink.send(errorEvent(new ServingError('conflict', message)))
    }
  }

  tokenize(...request: Parameters<WorkerService['tokenize']>): ReturnType<WorkerService['tokenize']> {
    return this.#ready().tokenize(...request)
  }

  adapters(...question: Parameters<WorkerService['adapters']>): ReturnType<WorkerService['adapters']> {
    return this.#orders().adapters(...question)
  }

  async order(...order: Parameters<WorkerService['order']>): ReturnType<WorkerService['order']> {
    return await this.#orders().order(...order)
  }

  #ready(): RunService {
    if (this.runs === undefined) throw this.#starting()
    return this.runs
  }

  #orders(): AdapterService {
    if (this.adapterService === undefined) throw this.#starting()
    return this.adapterService
  }

  #starting(): ServingError {
    return new ServingError('not_ready', 'the worker is still loading its model')
  }
}
