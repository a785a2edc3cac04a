/**
 * A fixed script of requests through the batching loop, the adapter cache and the real engine on a tiny model, without anything that
 * depends on time: everybody asks at once, no clock goes, and a step ends after the loads that go on beside it. There is always a step,
 * since one long text of the base model goes on until everybody else is answered. Counts of what was done are the same every time.
 */
import { createAdapterCache } from '@quiver/cache'
import { inspectAdapter } from '@quiver/cache/format'
import { putStoredAdapter } from '@quiver/cache/store'
import type { RunEvent, RunRequest, SequenceId, SlotIndex } from '@quiver/protocol'
import type { PackedAdapter } from '../../packages/cache/src/index.ts'
import { BatchLoop } from '../../packages/worker/src/batch-loop.ts'
import type { Engine, EngineStep, StepResult } from '../../packages/worker/src/engine/engine.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import { RunService } from '../../packages/worker/src/run-service.ts'
import { buildAdapter } from './adapter-files.ts'
import { endsWith, greedy, runRequest } from './batch-harness.ts'
import { openTestEngine } from './engine-under-test.ts'
import { fakeTokenizer } from './fake-tokenizer.ts'
import { ManualClock } from './manual-clock.ts'
import { MemoryStore } from './memory-store.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { tinyModel } from './tiny-models.ts'

const CAPACITY = { sequences: 4, totalTokens: 64, slots: 2, maxRank: 8, chunkTokens: 16 }
const ADAPTERS = 5
const REQUESTS = 14
const BYTES = 100_000_000

export interface ScriptedCounts {
  readonly steps: number
  /** Rows that were computed. */
  readonly rows: number
  readonly slotLoads: number
  /** Objects read of the store. */
  readonly storeReads: number
  /** Tokens that the requests got. */
  readonly tokens: number
}

/** An engine that counts. A step's result waits for the loads that go on beside it. */
class CountingEngine implements Engine {
  readonly model: Engine['model']
  readonly capacity: Engine['capacity']
  readonly description: Engine['description']
  readonly slots: number
  readonly runsTogether: boolean
  readonly counts = { steps: 0, rows: 0, slotLoads: 0 }
  isLoading: () => boolean = () => false
  readonly #engine: Engine

  constructor(engine: Engine) {
    this.#engine = engine
    this.model = engine.model
    this.capacity = engine.capacity
    this.description = engine.description
    this.slots = engine.slots
    this.runsTogether = engine.runsTogether
  }

  async loadAdapter(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    this.counts.slotLoads += 1
    await this.#engine.loadAdapter(slot, packed)
  }

  clearSlot(slot: SlotIndex): void {
    this.#engine.clearSlot(slot)
  }

  async step(step: EngineStep): Promise<StepResult> {
    this.counts.steps += 1
    this.counts.rows += step.rows.length
    const result = await this.#engine.step(step)
    do await new Promise(setImmediate)
    while (this.isLoading())
    return result
  }

  meanHidden(sequence: SequenceId): Float32Array {
    return this.#engine.meanHidden(sequence)
  }

  truncate(sequence: SequenceId, length: number): void {
    this.#engine.truncate(sequence, length)
  }

  release(sequence: SequenceId): void {
    this.#engine.release(sequence)
  }

  async close(): Promise<void> {
    await this.#engine.close()
  }
}

export async function scriptedEngineRun(): Promise<ScriptedCounts> {
  const opened = await openTestEngine(tinyModel('llama-fp32-tied'), 'fp32', CAPACITY)
  const engine = new CountingEngine(opened.engine)
  const [clock, store] = [new ManualClock(), new MemoryStore()]
  const layout = baseLayout(engine.model)
  const cacheDir = await temporaryFolder()
  const bytes = { diskBytes: BYTES, ramBytes: BYTES }
  const config = { layout, dtype: 'f32' as const, maxRank: CAPACITY.maxRank, cacheDir, localRoots: [], ...bytes }
  const cache = await createAdapterCache(config, { clock, store, device: engine, log: () => {} })
  const adapters: RunRequest['adapter'][] = [{ kind: 'base' }]
  for (let index = 0; index < ADAPTERS; index += 1) {
    const built = buildAdapter({ layout, alpha: index + 1 })
    const { digest } = await inspectAdapter(built.config, built.weights, layout, CAPACITY.maxRank)
    await putStoredAdapter(store, digest, built)
    const ref = { kind: 'registered', name: `adapter-${index}`, digest } as const
    await cache.prefetch(await cache.resolve(ref), AbortSignal.timeout(60_000))
    adapters.push(ref)
  }
  const common = { cache, tokenizer: fakeTokenizer(), clock, timers: clock }
  const broken = Promise.withResolvers<never>()
  const loop = new BatchLoop({ ...common, engine, log: () => {}, fatal: broken.reject })
  const service = new RunService({
    ...common,
    loop,
    createSampler: () => greedy(),
    createStops: (stops) => endsWith(stops),
    openConstraint: () => Promise.reject(new Error('the script has no grammars')),
    renderTemplate: () => Promise.reject(new Error('the script has no templates')),
    scores: new Float32Array(engine.model.vocabSize),
    vocabSize: engine.model.vocabSize,
    inputTokens: CAPACITY.totalTokens - 1,
    totalTokens: CAPACITY.totalTokens,
    waitingLimit: REQUESTS + 1,
    tenantLimits: { requests: 512, tokens: 524_288 },
    arrivalMs: 60_000,
  })
  engine.isLoading = () => loop.state().loading > 0
  const company = new AbortController()
  const start = (request: Parameters<typeof runRequest>[0], send: (event: RunEvent) => void, signal: AbortSignal) =>
    service.start(runRequest(request), { send }, signal)
  start({ requestId: 'company', maxNewTokens: CAPACITY.totalTokens - 10 }, () => {}, company.signal)
  const ended = Promise.withResolvers<ScriptedCounts>()
  let [tokens, left] = [0, REQUESTS]
  const send = (event: RunEvent): void => {
    if (event.type === 'error') ended.reject(new Error(event.message))
    if (event.type === 'token') tokens += 1
    if (event.type === 'done') left -= 1
    // In this very turn: the next step is not counted.
    if (left === 0) ended.resolve({ ...engine.counts, storeReads: store.gets.length, tokens })
  }
  for (let index = 0; index < REQUESTS; index += 1) {
    // Neighbours differ, and every adapter comes back when others have had its slot.
    const adapter = adapters[(index * 5) % adapters.length] ?? { kind: 'base' }
    const inputs = 'abcdefgh'.repeat(3).slice(0, 4 + ((index * 7) % 20))
    start({ requestId: `request-${index}`, adapter, inputs, maxNewTokens: 3 + (index % 5) }, send, new AbortController().signal)
  }
  const counts = await Promise.race([ended.promise, broken.promise])
  company.abort()
  await loop.close()
  await cache.close()
  await opened.close()
  return counts
}
