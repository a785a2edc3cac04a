import { join } from 'node:path'
import type { PackedAdapter } from '@quiver/cache'
import { createRemoteEngine, type RemoteEngineConfig } from '../../packages/worker/src/engine/remote/remote-engine.ts'
import type { StreamingEngine } from '../../packages/worker/src/engine/streaming-engine.ts'
import { RunService } from '../../packages/worker/src/run-service.ts'
import { Candidates } from '../../packages/worker/src/sampling/candidates.ts'
import { distantSampler } from '../../packages/worker/src/sampling/distant-sampler.ts'
import { createSampler } from '../../packages/worker/src/sampling/sampler.ts'
import { createStopSequences } from '../../packages/worker/src/sampling/stop-sequences.ts'
import { StreamLoop } from '../../packages/worker/src/stream-loop.ts'
import type { HarnessRun, RunParts } from './batch-harness.ts'
import { registered, runRequest, startRun } from './batch-harness.ts'
import { FakeAdapterCache, fakeDigest } from './fake-adapter-cache.ts'
import { fakeSpec, fakeVocabSize } from './fake-engine.ts'
import { fakeTokenizer } from './fake-tokenizer.ts'
import { ManualClock } from './manual-clock.ts'
import { RemoteStub, type RemoteStubOptions } from './remote-stub.ts'

/** How the stub names a fake adapter. */
export function remoteName(name: string): string {
  return `quiver-${fakeDigest(name)}`
}

export interface RemoteHarnessOptions extends Partial<RemoteStubOptions> {
  readonly folder: string
  readonly config?: Partial<RemoteEngineConfig>
}

/** A worker without HTTP in front of a stub of a server: run service, stream loop and remote engine are the real ones. */
export class RemoteHarness {
  readonly clock = new ManualClock()
  readonly stub: RemoteStub
  readonly engine: StreamingEngine
  readonly cache: FakeAdapterCache
  readonly loop: StreamLoop
  readonly service: RunService
  readonly fatal: unknown[] = []
  readonly log: string[] = []

  private constructor(stub: RemoteStub, engine: StreamingEngine, log: string[]) {
    this.stub = stub
    this.engine = engine
    this.log = log
    const memory = {
      slots: engine.slots,
      loadAdapter: (slot: Parameters<StreamingEngine['loadAdapter']>[0], { digest }: PackedAdapter) =>
        engine.loadAdapter(slot, { digest, dtype: 'f32', rank: 1, modules: [], bytes: 0 }),
      clearSlot: (slot: Parameters<StreamingEngine['clearSlot']>[0]) => engine.clearSlot(slot),
    }
    this.cache = new FakeAdapterCache({ memory, clock: this.clock })
    const tokenizer = fakeTokenizer()
    const common = { cache: this.cache, tokenizer, clock: this.clock, timers: this.clock }
    this.loop = new StreamLoop({
      ...common,
      engine,
      log: (_level, message) => this.log.push(message),
      fatal: (error) => this.fatal.push(error),
    })
    const sampling = { drawSeed: () => 5n, candidates: new Candidates(fakeVocabSize) }
    this.service = new RunService({
      ...common,
      loop: this.loop,
      refuse: (request) => engine.refuse(request),
      createSampler: (parameters, promptIds) => distantSampler(createSampler(parameters, promptIds, sampling), engine),
      createStops: createStopSequences,
      openConstraint: async () => ({ mask: () => new Int32Array(2), accept: () => {}, close: () => {} }),
      renderTemplate: () => Promise.reject(new Error('this harness has no templates')),
      scores: new Float32Array(fakeVocabSize),
      vocabSize: fakeVocabSize,
      inputTokens: engine.capacity.totalTokens - 1,
      totalTokens: engine.capacity.totalTokens,
      waitingLimit: 64,
      tenantLimits: { requests: 64, tokens: 65_536 },
      arrivalMs: 60_000,
    })
  }

  static async start({ folder, config, ...options }: RemoteHarnessOptions): Promise<RemoteHarness> {
    const stub = await RemoteStub.start({ kind: 'vllm', model: 'fake-model', vocabSize: fakeVocabSize, ...options })
    const log: string[] = []
    const engine = await openEngine(stub, { folder: join(folder, 'adapters'), ...config }, (message) => log.push(message))
    return new RemoteHarness(stub, engine, log)
  }

  run({ on, ...parts }: RunParts & { readonly on?: string } = {}): HarnessRun {
    return startRun(this.service, runRequest({ ...(on === undefined ? {} : { adapter: registered(on) }), ...parts }))
  }

  /** Looks after each turn of the event loop, for what comes over a socket. @throws Error after many turns */
  async until(isSo: () => boolean, what: string): Promise<void> {
    for (let turn = 0; !isSo(); turn++) {
      if (turn > 200_000) throw new Error(`it did not come about that ${what}`)
      await new Promise(setImmediate)
    }
  }

  async close(): Promise<void> {
    await this.loop.close()
    await this.engine.close()
    await this.stub.stop()
  }
}

export function openEngine(
  stub: Pick<RemoteStub, 'url'>,
  config: Partial<RemoteEngineConfig> & Pick<RemoteEngineConfig, 'folder'>,
  note: (message: string) => void = () => {},
): Promise<StreamingEngine> {
  return createRemoteEngine(
    {
      url: stub.url,
      kind: 'auto',
      model: '',
      key: '',
      folderAtServer: '',
      sequences: 4,
      totalTokens: 64,
      slots: 2,
      maxRank: 8,
      ...config,
    },
    {
      fetch,
      timers: new ManualClock(),
      log: (_level, message) => note(message),
      spec: fakeSpec,
      tokenizer: fakeTokenizer(),
    },
  )
}
