import { strict as assert } from 'node:assert'
import type { PackedAdapter, PackedDtype } from '@quiver/cache'
import type { Dtype, Progress, SequenceId, SlotIndex } from '@quiver/protocol'
import { baseLayout, type ModelSpec, type ModelWeights } from '../../model/model-spec.ts'
import { throwIfStopped } from '../../model/sleep.ts'
import type { Capacity, Engine, EngineStep, PrefixMemory, RowOutput, StepResult } from '../engine.ts'
import type { AdapterPools } from './adapter-pools.ts'
import { cachedGraph } from './graph-cache.ts'
import { GraphRun, type RunInput, type RunOutput } from './graph-run.ts'
import { HiddenSums } from './hidden-sums.ts'
import { KvCache } from './kv-cache.ts'
import { adapterPools } from './lora-form.ts'
import type { OperatorLibrary } from './operator-library.ts'
import { loadOnnxRuntime, type OnnxRuntime, type Session } from './ort.ts'
import { type SequenceRows, splitStep } from './step-runs.ts'

export interface OnnxEngineOptions {
  readonly model: { readonly spec: ModelSpec; readonly weights: ModelWeights; readonly sha: string }
  readonly dtype: Dtype
  readonly capacity: Capacity
  /** Folder under which built graphs are kept. */
  readonly cacheDir: string
  readonly threads: number
  /** Applies adapters by our own operator; without it standard operators do. */
  readonly operator?: OperatorLibrary | undefined
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
  const runtime = loadOnnxRuntime()
  let session: Session | undefined
  try {
    session = await runtime.createSession(graph, {
      threads: options.threads,
      config: sessionConfig,
      operatorLibraries: options.operator === undefined ? [] : [options.operator.path],
      ...(options.profilePrefix ? { profilePrefix: options.profilePrefix } : {}),
    })
    throwIfStopped(options.signal)
    progress(1)
    return new OnnxEngine(options, runtime, session)
  } catch (error) {
    session?.close()
    runtime.close()
    throw error
  }
}

class OnnxEngine implements Engine {
  readonly model: ModelSpec
  readonly capacity: Capacity
  readonly slots: number
  readonly description: Engine['description']
  readonly prefix: PrefixMemory
  readonly #runtime: OnnxRuntime
  readonly #session: Session
  readonly #kv: KvCache
  readonly #pools: AdapterPools
  readonly #decode: GraphRun
  readonly #prefill: GraphRun
  readonly #hidden: HiddenSums
  #logprobs = new Float32Array(0)
  #state: 'idle' | 'stepping' | 'closed' = 'idle'

  constructor(options: OnnxEngineOptions, runtime: OnnxRuntime, session: Session) {
    const { spec } = options.model
    this.model = spec
    this.capacity = options.capacity
    this.slots = options.capacity.slots
    this.#runtime = runtime
    this.#session = session
    this.#kv = new KvCache(spec, options.capacity)
    this.#hidden = new HiddenSums(spec.hiddenSize)
    this.prefix = this.#kv
    const dtype = packedDtype(options.dtype)
    const { operator } = options
    this.description = { kind: 'onnx', device: 'cpu', lora: operator?.name ?? 'standard' }
    const pools = { slots: this.slots, maxRank: options.capacity.maxRank, dtype }
    this.#pools = adapterPools(operator === undefined ? 'standard' : 'operator', baseLayout(spec), pools)
    const parts = {
      runtime,
      session,
      kv: this.#kv,
      kvShape: (batch: number) => [batch, spec.kvHeadCount, this.#kv.capacity, spec.headDim],
      pools: this.#pools,
      vocabSize: spec.vocabSize,
      hiddenSize: spec.hiddenSize,
    }
    this.#decode = new GraphRun(parts)
    this.#prefill = new GraphRun(parts)
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
      const { decode, prefill } = splitStep(step)
      const results = new Map<number, RowOutput>()
      const outputs = this.#outputs(step)
      if (decode.length > 0) await this.#runDecode(decode, outputs, results)
      for (const rows of prefill) await this.#runPrefill(rows, outputs, results)
      return step.wanted.map(({ row }) => {
        const output = results.get(row)
        assert(output, 'every wanted row has a result')
        return output
      })
    } finally {
      this.#state = 'idle'
    }
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
    this.#decode.close()
    this.#prefill.close()
    this.#session.close()
    this.#runtime.close()
  }

  async #runDecode(sequences: readonly SequenceRows[], outputs: OutputSpace, results: Map<number, RowOutput>): Promise<void> {
    const bySequence = new Map(sequences.map((rows) => [rows.sequence, rows]))
    const ordered = this.#kv.gather([...bySequence.keys()]).map((sequence) => bySequence.get(sequence) as SequenceRows)
    await this.#run(this.#decode, ordered, 0, outputs, results)
  }

  async #runPrefill(rows: SequenceRows, outputs: OutputSpace, results: Map<number, RowOutput>): Promise<void> {
    await this.#run(this.#prefill, [rows], this.#kv.row(rows.sequence), outputs, results)
  }

  /** Runs sequences with equally many rows each, which lie in neighbouring rows of the cache from `firstRow` on. */
  async #run(
    graph: GraphRun,
    sequences: readonly SequenceRows[],
    firstRow: number,
    outputs: OutputSpace,
    results: Map<number, RowOutput>,
  ): Promise<void> {
    const { hiddenSize, vocabSize } = this.model
    const length = sequences[0]?.rows.length ?? 0
    const rows = sequences.flatMap((sequence) => sequence.rows)
    const wanted = sequences.flatMap((sequence, i) =>
      sequence.wanted.map(({ row }) => ({ row, local: i * length + row - sequence.firstRow })),
    )
    const pooled = sequences.flatMap(({ isPooled }, i) => (isPooled ? [i] : []))
    for (const { sequence, rows: own } of sequences) {
      assert(own[0]?.position === this.#kv.length(sequence), 'a sequence goes on where it stopped')
      assert(this.#kv.length(sequence) + length <= this.#kv.capacity, 'a sequence fits into its row of the cache')
    }
    const input: RunInput = {
      tokens: Int32Array.from(rows, (row) => row.token),
      slots: Int32Array.from(rows, (row) => row.slot),
      batch: sequences.length,
      length,
      firstRow,
      lengths: Int32Array.from(sequences, ({ rows: own }) => (own[0]?.position ?? 0) + length),
      // A run needs something to answer: a piece of a prompt of which nothing is wanted answers its last row.
      wanted: wanted.length > 0 ? Int32Array.from(wanted, ({ local }) => local) : Int32Array.of(rows.length - 1),
      pooled: Int32Array.from(
        { length: pooled.length * length },
        (_, at) => (pooled[Math.floor(at / length)] ?? 0) * length + (at % length),
      ),
    }
    const output = outputs.take(input.wanted.length, input.pooled.length)
    await graph.run(input, output)
    for (const { sequence } of sequences) this.#kv.setLength(sequence, this.#kv.length(sequence) + length)
    for (const [i, of] of pooled.entries()) {
      const { sequence } = sequences[of] as SequenceRows
      this.#hidden.add(sequence, output.hidden.subarray(i * length * hiddenSize, (i + 1) * length * hiddenSize))
    }
    for (const [i, { row }] of wanted.entries()) results.set(row, rowOutput(row, i, output, vocabSize))
  }

  /** Room for the results of one step, in one array that grows to what was needed most and is kept. */
  #outputs(step: EngineStep): OutputSpace {
    const vocab = this.model.vocabSize
    const top = step.wanted.reduce((most, wanted) => Math.max(most, wanted.top), 1)
    // Every run answers at least one row, wanted or not.
    const most = (step.wanted.length + this.capacity.sequences) * vocab
    if (this.#logprobs.length < most) this.#logprobs = new Float32Array(most)
    let used = 0
    return {
      take: (rows, pooled) => {
        const logprobs = this.#logprobs.subarray(used * vocab, (used + rows) * vocab)
        used += rows
        return {
          top,
          logprobs,
          firstLogits: new Float32Array(rows),
          topLogprobs: new Float32Array(rows * top),
          topIds: new BigInt64Array(rows * top),
          hidden: new Float32Array(pooled * this.model.hiddenSize),
        }
      },
    }
  }
}

interface OutputSpace {
  /** @param pooled rows whose hidden states are wanted */
  take(rows: number, pooled: number): RunOutput
}

function rowOutput(row: number, index: number, output: RunOutput, vocab: number): RowOutput {
  const { top } = output
  const logprobs = output.logprobs.subarray(index * vocab, (index + 1) * vocab)
  return {
    row,
    logprobs,
    logSumExp: (output.firstLogits[index] ?? 0) - (logprobs[0] ?? 0),
    topIds: Array.from(output.topIds.subarray(index * top, (index + 1) * top), Number),
    topLogprobs: Array.from(output.topLogprobs.subarray(index * top, (index + 1) * top)),
  }
}
