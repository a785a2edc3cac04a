import type { AdapterPools } from './adapter-pools.ts'
import type { KvCache } from './kv-cache.ts'
import type { Binding, ElementType, OnnxRuntime, Session, Tensor, TensorData } from './ort.ts'

/** Sequences computed together: `batch` of them, `length` new tokens each, in neighbouring rows of the KV cache. */
export interface RunInput {
  /** [batch·length], sequence after sequence. */
  readonly tokens: Int32Array<ArrayBuffer>
  /** [batch·length] slot of each row, −1 for the base model. */
  readonly slots: Int32Array<ArrayBuffer>
  readonly batch: number
  readonly length: number
  readonly firstRow: number
  /** [batch] keys of each sequence after this run. */
  readonly lengths: Int32Array<ArrayBuffer>
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
  readonly kv: KvCache
  readonly kvShape: (batch: number) => readonly number[]
  readonly pools: AdapterPools
  readonly vocabSize: number
  readonly hiddenSize: number
}

/**
 * One way of running the graph with everything bound that does not change between runs: adapter pools for ever, the KV
 * cache until the batch lies in other rows. Decode and prefill each have their own, so neither unbinds the other's.
 */
export class GraphRun {
  readonly #parts: Parts
  readonly #binding: Binding
  readonly #bound = new Map<string, Tensor>()
  #kvRows = ''

  constructor(parts: Parts) {
    this.#parts = parts
    this.#binding = parts.session.createBinding()
    for (const { name, type, shape, data } of parts.pools.lasting) this.#bind('input', name, type, shape, data)
  }

  /** Computes a batch; its results are in `output` when this resolves. */
  async run(input: RunInput, output: RunOutput): Promise<void> {
    this.#bindKv(input.firstRow, input.batch)
    this.#bindRows(input)
    for (const { name, type, shape, data } of this.#parts.pools.inputsOf(input.slots))
      this.#bind('input', name, type, shape, data)
    const wanted = input.wanted.length
    this.#bind('output', 'logprobs', 'f32', [wanted, this.#parts.vocabSize], output.logprobs)
    this.#bind('output', 'first_logit', 'f32', [wanted, 1], output.firstLogits)
    this.#bind('output', 'top_logprobs', 'f32', [wanted, output.top], output.topLogprobs)
    this.#bind('output', 'top_ids', 'i64', [wanted, output.top], output.topIds)
    this.#bind('output', 'hidden', 'f32', [input.pooled.length, this.#parts.hiddenSize], output.hidden)
    this.#bind('input', 'top', 'i64', [1], BigInt64Array.of(BigInt(output.top)))
    await this.#binding.run()
  }

  close(): void {
    this.#binding.close()
    for (const tensor of this.#bound.values()) tensor.release()
    this.#bound.clear()
  }

  #bindRows({ tokens, batch, length, lengths, wanted, pooled }: RunInput): void {
    this.#bind('input', 'tokens', 'i32', [batch * length], tokens)
    this.#bind('input', 'attention_shape', 'i64', [3], BigInt64Array.of(BigInt(batch), BigInt(length), -1n))
    this.#bind(
      'input',
      'seqlens_k',
      'i32',
      [batch],
      lengths.map((keys) => keys - 1),
    )
    this.#bind('input', 'total_length', 'i32', [], Int32Array.of(Math.max(...lengths)))
    this.#bind('input', 'wanted', 'i32', [wanted.length], wanted)
    this.#bind('input', 'pooled', 'i32', [pooled.length], pooled)
  }

  /** Binds the batch's rows of the cache as past and as present: attention updates them in place. */
  #bindKv(firstRow: number, batch: number): void {
    const key = `${firstRow}+${batch}`
    if (key === this.#kvRows) return
    // Until all layers are bound: a run after a failure in between must not take some of them from other rows.
    this.#kvRows = ''
    const { kv } = this.#parts
    const shape = this.#parts.kvShape(batch)
    for (const [i, array] of kv.arrays.entries()) {
      const name = `${i % 2 === 0 ? 'key' : 'value'}.${i >> 1}`
      const tensor = this.#bind('input', name, 'f32', shape, kv.view(array, firstRow, batch))
      this.#binding.bindOutput(`new_${name}`, tensor)
    }
    this.#kvRows = key
  }

  #bind(direction: 'input' | 'output', name: string, type: ElementType, shape: readonly number[], data: TensorData): Tensor {
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
