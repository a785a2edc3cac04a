import { strict as assert } from 'node:assert'
import type { PackedAdapter, PackedDtype } from '@quiver/cache'
import type { Dtype, Progress, SequenceId, SlotIndex } from '@quiver/protocol'
import { baseLayout, type ModelSpec, type ModelWeights } from '../../model/model-spec.ts'
import { throwIfStopped } from '../../model/sleep.ts'
import type { Capacity, Engine, EngineStep, PrefixMemory, RowOutput, StepResult } from '../engine.ts'
import { activationType } from './activation-type.ts'
import type { AdapterPools } from './adapter-pools.ts'
import type { AttentionCache, AttentionRun } from './attention-cache.ts'
import { attentionCache } from './attention-form.ts'
import type { Device, DeviceBackend } from './device/device.ts'
import { runFailure } from './device/device-faults.ts'
import { DeviceKvCache } from './device/device-kv.ts'
import { deviceStore } from './device/device-pools.ts'
import { cachedGraph } from './graph-cache.ts'
import { GraphRun, type RunInput } from './graph-run.ts'
import { HiddenSums } from './hidden-sums.ts'
import { adapterPools, type LoraForm } from './lora-form.ts'
import type { OperatorLibrary } from './operator-library.ts'
import { loadOnnxRuntime, type OnnxRuntime, type Session } from './ort.ts'
import { rowOutput, StepOutputSpace, type StepOutputs } from './step-outputs.ts'
import { type SequenceRows, sequencesOf } from './step-sequences.ts'

export interface OnnxEngineOptions {
  readonly model: { readonly spec: ModelSpec; readonly weights: ModelWeights; readonly sha: string }
  readonly dtype: Dtype
  readonly capacity: Capacity
  /** Folder under which built graphs are kept. */
  readonly cacheDir: string
  readonly threads: number
  /** Applies adapters by our own operator; without it standard operators do. */
  readonly operator?: OperatorLibrary | undefined
  /** Computes the graph; absent: this machine's processor does. `dtype` is one of its own then, and `operator` is for it. */
  readonly device?: DeviceBackend | undefined
  readonly onProgress: (progress: Progress) => void
  /** Calls the making off: between two layers while the graph is built, or when the session is there. */
  readonly signal?: AbortSignal
  /** Writes a trace of every node; for profiling only. */
  readonly profilePrefix?: string
}

/**
 * Idle threads sleep instead of spinning (docs/adr/0008): spinning wins nothing at one row and about 5 % at 16, and costs
 * half of a step as soon as anything else, such as the gateway, wants one of the cores.
 */
const sessionConfig = { 'session.intra_op.allow_spinning': '0' }

/** Adapters are held in 16 bits unless the base itself is exact. */
export function packedDtype(dtype: Dtype): PackedDtype {
  if (dtype === 'bf16') return 'bf16'
  return dtype === 'fp32' ? 'f32' : 'f16'
}

/**
 * The base model on ONNX Runtime's CPU provider. Builds the graph unless it is cached, then loads it.
 * @throws ServingError `not_found`, `invalid_request` from the weights; `internal` from ONNX Runtime; `client_closed` when
 * called off. Nothing is left open then
 * @example const engine = await createOnnxEngine({ model, dtype: 'int8', capacity, cacheDir, threads: 2, onProgress })
 */
export async function createOnnxEngine(options: OnnxEngineOptions): Promise<Engine> {
  const graph = await cachedGraph(options, packedDtype(options.dtype))
  const { id } = options.model.spec
  const progress = (done: number) => options.onProgress({ phase: 'load', label: id, done, total: 1, unit: 'steps' })
  progress(0)
  const { device: backend } = options
  const device = backend?.open()
  let runtime: OnnxRuntime | undefined
  let session: Session | undefined
  try {
    runtime = loadOnnxRuntime(backend && { ...backend.runtime, deviceMemory: backend.memoryName })
    const cuda = device && backend?.provider?.(device)
    session = await runtime.createSession(graph, {
      threads: options.threads,
      config: sessionConfig,
      ...(cuda && { cuda }),
      operatorLibraries: options.operator === undefined ? [] : [options.operator.path],
      ...(options.profilePrefix ? { profilePrefix: options.profilePrefix } : {}),
    })
    throwIfStopped(options.signal)
    progress(1)
    return new OnnxEngine(options, { runtime, session, device })
  } catch (error) {
    session?.close()
    runtime?.close()
    device?.close()
    throw runFailure(error)
  }
}

interface EngineParts {
  readonly runtime: OnnxRuntime
  readonly session: Session
  readonly device: Device | undefined
}

class OnnxEngine implements Engine {
  readonly model: ModelSpec
  readonly capacity: Capacity
  readonly slots: number
  readonly description: Engine['description']
  /** None where keys and values lie in a device's memory. */
  readonly prefix?: PrefixMemory
  readonly runsTogether: boolean
  readonly #runtime: OnnxRuntime
  readonly #session: Session
  readonly #device: Device | undefined
  readonly #kv: AttentionCache
  readonly #pools: AdapterPools
  /** By lane. */
  readonly #graphs: ReadonlyMap<string, GraphRun>
  readonly #hidden: HiddenSums
  readonly #outputs: StepOutputSpace
  #state: 'idle' | 'stepping' | 'closed' = 'idle'

  constructor(options: OnnxEngineOptions, { runtime, session, device }: EngineParts) {
    const { spec } = options.model
    this.model = spec
    this.capacity = options.capacity
    this.slots = options.capacity.slots
    this.#runtime = runtime
    this.#session = session
    this.#device = device
    this.#hidden = new HiddenSums(spec.hiddenSize)
    const dtype = packedDtype(options.dtype)
    const { operator } = options
    this.description = { kind: 'onnx', device: options.device?.name ?? 'cpu', lora: operator?.name ?? 'standard' }
    const pools = { slots: this.slots, maxRank: options.capacity.maxRank, dtype, ...(device && { store: deviceStore(device) }) }
    const form: LoraForm = operator === undefined ? 'standard' : 'operator'
    this.#pools = adapterPools(form, baseLayout(spec), pools)
    if (device === undefined) {
      const cache = attentionCache(form, spec, options.capacity, options.dtype)
      this.#kv = cache
      this.prefix = cache
    } else {
      const { sequences, chunkTokens } = options.capacity
      this.#kv = new DeviceKvCache(device, spec, { ...options.capacity, type: activationType(options.dtype) })
      device.reserveLora({ ...pools, rows: Math.max(sequences, chunkTokens) })
    }
    this.runsTogether = this.#kv.runsTogether
    this.#outputs = new StepOutputSpace(spec, options.capacity)
    const parts = {
      runtime,
      session,
      device,
      pools: this.#pools,
      vocabSize: spec.vocabSize,
      hiddenSize: spec.hiddenSize,
    }
    this.#graphs = new Map(this.#kv.lanes.map((lane) => [lane, new GraphRun(parts)]))
  }

  loadAdapter(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    return this.#pools.load(slot, packed)
  }

  clearSlot(slot: SlotIndex): void {
    this.#pools.clear(slot)
  }

  async step(step: EngineStep): Promise<StepResult> {
    assert(this.#state === 'idle', 'one step at a time, and none after the end')
    this.#state = 'stepping'
    try {
      const sequences = sequencesOf(step)
      for (const own of sequences) this.#assertFits(own)
      const results = new Map<number, RowOutput>()
      const outputs = this.#outputs.ofStep(step)
      for (const run of this.#kv.runs(sequences)) await this.#run(run, outputs, results)
      return step.wanted.map(({ row }) => {
        const output = results.get(row)
        assert(output, 'every wanted row has a result')
        return output
      })
    } catch (thrown) {
      throw this.#device === undefined ? thrown : runFailure(thrown)
    } finally {
      this.#state = 'idle'
    }
  }

  truncate(sequence: SequenceId, length: number): void {
    assert(this.#state !== 'stepping', 'a sequence is not cut during a step')
    assert(length <= this.#kv.length(sequence) && !this.#hidden.has(sequence), 'only rows that were computed and not summed up')
    this.#kv.setLength(sequence, length)
  }

  release(sequence: SequenceId): void {
    assert(this.#state !== 'stepping', 'a sequence is not released during a step')
    this.#kv.release(sequence)
    this.#hidden.forget(sequence)
  }

  meanHidden(sequence: SequenceId): Float32Array {
    assert(this.#state !== 'stepping', 'hidden states are not read during a step')
    return this.#hidden.mean(sequence)
  }

  async close(): Promise<void> {
    // The run in progress would read memory that is given back here.
    assert(this.#state !== 'stepping', 'the engine is not closed during a step')
    if (this.#state === 'closed') return
    this.#state = 'closed'
    for (const graph of this.#graphs.values()) graph.close()
    this.#session.close()
    this.#runtime.close()
    this.#device?.close()
  }

  #assertFits({ sequence, rows }: SequenceRows): void {
    const length = this.#kv.length(sequence)
    assert(rows[0]?.position === length, 'a sequence goes on where it stopped')
    assert(length + rows.length <= this.#kv.capacity, 'a sequence fits into its row of the cache')
  }

  async #run(run: AttentionRun, outputs: StepOutputs, results: Map<number, RowOutput>): Promise<void> {
    const { sequences } = run
    const { hiddenSize } = this.model
    const rows = sequences.flatMap((sequence) => sequence.rows)
    const wanted: number[] = []
    const pooled: number[] = []
    let start = 0
    for (const { wanted: own, rows: ownRows, firstRow, isPooled } of sequences) {
      wanted.push(...own.map(({ row }) => start + row - firstRow))
      if (isPooled) pooled.push(...ownRows.map((_, row) => start + row))
      start += ownRows.length
    }
    const input: RunInput = {
      tokens: Int32Array.from(rows, (row) => row.token),
      slots: Int32Array.from(rows, (row) => row.slot),
      attention: run.inputs,
      cache: run.cache,
      // A run needs something to answer: pieces of prompts of which nothing is wanted answer their last row.
      wanted: Int32Array.from(wanted.length > 0 ? wanted : [rows.length - 1]),
      pooled: Int32Array.from(pooled),
    }
    const output = outputs.take(input.wanted.length, input.pooled.length)
    await this.#graphs.get(run.lane)?.run(input, output)
    let summed = 0
    for (const { sequence, rows: own, isPooled } of sequences) {
      this.#kv.setLength(sequence, this.#kv.length(sequence) + own.length)
      if (!isPooled) continue
      this.#hidden.add(sequence, output.hidden.subarray(summed * hiddenSize, (summed + own.length) * hiddenSize))
      summed += own.length
    }
    const wantedRows = sequences.flatMap((sequence) => sequence.wanted)
    for (const [i, { row }] of wantedRows.entries()) results.set(row, rowOutput(row, i, output, this.model.vocabSize))
  }
}
