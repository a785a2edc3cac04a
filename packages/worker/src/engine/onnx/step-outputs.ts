import type { ModelSpec } from '../../model/model-spec.ts'
import type { Capacity, EngineStep, RowOutput } from '../engine.ts'
import type { RunOutput } from './graph-run.ts'

/** Room for the results of the runs of one step. */
export interface StepOutputs {
  /** @param rows wanted ones. @param pooled rows whose hidden states are wanted */
  take(rows: number, pooled: number): RunOutput
}

/** Room for the results of one step, in one array that grows to what was needed most and is kept. */
export class StepOutputSpace {
  readonly #vocabSize: number
  readonly #hiddenSize: number
  /** Every run answers at least one row, wanted or not. */
  readonly #mostRuns: number
  #logprobs = new Float32Array(0)

  constructor(spec: Pick<ModelSpec, 'vocabSize' | 'hiddenSize'>, capacity: Capacity) {
    this.#vocabSize = spec.vocabSize
    this.#hiddenSize = spec.hiddenSize
    this.#mostRuns = capacity.sequences
  }

  /** What the step before gave is not valid any more. */
  ofStep(step: EngineStep): StepOutputs {
    const vocab = this.#vocabSize
    const top = step.wanted.reduce((most, wanted) => Math.max(most, wanted.top), 1)
    const most = (step.wanted.length + this.#mostRuns) * vocab
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
          hidden: new Float32Array(pooled * this.#hiddenSize),
        }
      },
    }
  }
}

/** The result of a run's wanted row `index`, which is row `row` of the step. */
export function rowOutput(row: number, index: number, output: RunOutput, vocab: number): RowOutput {
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
