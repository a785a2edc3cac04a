import type { AdapterPools, InputTensor } from './adapter-pools.ts'
import type { CacheBinding } from './attention-cache.ts'
import type { Device } from './device/device.ts'
import type { Binding, ElementType, OnnxRuntime, Session, Tensor, TensorMemory } from './ort.ts'

/** Sequences computed together. */
export interface RunInput {
  /** [rows], sequence after sequence. */
  readonly tokens: Int32Array<ArrayBuffer>
  /** [rows] slot of each row, −1 for the base model. */
  readonly slots: Int32Array<ArrayBuffer>
  /** What attention is told of this run, and where its keys and values are. */
  readonly attention: readonly InputTensor[]
  readonly cache: CacheBinding
  /** Rows whose distribution is wanted, ascending; at least one. */
  readonly wanted: Int32Array<ArrayBuffer>
  /** Rows whose final hidden state is wanted, mostly none. */
  readonly pooled: Int32Array<ArrayBuffer>
}

/** Where a run writes, for its wanted rows: [wanted, vocab], [wanted], [wanted, top], [wanted, top]; and for pooled ones. */
export interface RunOutput {
  readonly top: number
  readonly logprobs: Float32Array<ArrayBuffer>
  /** The logit of token 0. */
  readonly firstLogits: Float32Array<ArrayBuffer>
  readonly topLogprobs: Float32Array<ArrayBuffer>
  readonly topIds: BigInt64Array<ArrayBuffer>
  /** After the last norm, [pooled, hidden]. */
  readonly hidden: Float32Array<ArrayBuffer>
}

interface Parts {
  readonly runtime: OnnxRuntime
  readonly session: Session
  readonly pools: AdapterPools
  /** Where the graph is computed, if that goes on after the run. */
  readonly device?: Pick<Device, 'wait'> | undefined
  readonly vocabSize: number
  readonly hiddenSize: number
}

/**
 * One way of running the graph with everything bound that does not change between runs: adapter pools for ever, the KV
 * cache until a run has it elsewhere. Each lane of runs (attention-cache.ts) has its own, so that none unbinds another's.
 */
export class GraphRun {
  readonly #parts: Parts
  readonly #binding: Binding
  readonly #bound = new Map<string, Tensor>()
  #cacheKey: string | undefined

  constructor(parts: Parts) {
    this.#parts = parts
    this.#binding = parts.session.createBinding()
    for (const tensor of parts.pools.lasting) this.#bindInput(tensor)
  }

  /** Computes a batch; its results are in `output` when this resolves. */
  async run(input: RunInput, output: RunOutput): Promise<void> {
    this.#bindCache(input.cache)
    this.#bindRows(input)
    for (const tensor of [...input.attention, ...this.#parts.pools.inputsOf(input.slots)]) this.#bindInput(tensor)
    const wanted = input.wanted.length
    this.#bind('output', 'logprobs', 'f32', [wanted, this.#parts.vocabSize], output.logprobs)
    this.#bind('output', 'first_logit', 'f32', [wanted, 1], output.firstLogits)
    this.#bind('output', 'top_logprobs', 'f32', [wanted, output.top], output.topLogprobs)
    this.#bind('output', 'top_ids', 'i64', [wanted, output.top], output.topIds)
    this.#bind('output', 'hidden', 'f32', [input.pooled.length, this.#parts.hiddenSize], output.hidden)
    this.#bind('input', 'top', 'i64', [1], BigInt64Array.of(BigInt(output.top)))
    await this.#binding.run()
    await this.#parts.device?.wait()
  }

  close(): void {
    this.#binding.close()
    for (const tensor of this.#bound.values()) tensor.release()
    this.#bound.clear()
  }

  #bindRows({ tokens, wanted, pooled }: RunInput): void {
    this.#bind('input', 'tokens', 'i32', [tokens.length], tokens)
    this.#bind('input', 'wanted', 'i32', [wanted.length], wanted)
    this.#bind('input', 'pooled', 'i32', [pooled.length], pooled)
  }

  #bindCache({ key, tensors, isGivenBack }: CacheBinding): void {
    if (key === this.#cacheKey) return
    // Until all layers are bound: a run after a failure in between must not take some of them from elsewhere.
    this.#cacheKey = undefined
    for (const input of tensors) {
      const tensor = this.#bindInput(input)
      if (isGivenBack) this.#binding.bindOutput(`new_${input.name}`, tensor)
    }
    this.#cacheKey = key
  }

  #bindInput({ name, type, shape, data }: InputTensor): Tensor {
    return this.#bind('input', name, type, shape, data)
  }

  #bind(direction: 'input' | 'output', name: string, type: ElementType, shape: readonly number[], data: TensorMemory): Tensor {
    const tensor = this.#parts.runtime.tensor(type, shape, data)
    try {
      if (direction === 'input') this.#binding.bindInput(name, tensor)
      else this.#binding.bindOutput(name, tensor)
    } catch (error) {
      tensor.release()
      throw error
    }
    this.#bound.get(name)?.release()
    this.#bound.set(name, tensor)
    return tensor
  }
}
