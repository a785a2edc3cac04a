import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { BASE_SLOT, type Dtype, type SequenceId, type SlotIndex } from '../../packages/protocol/src/index.ts'
import type { Capacity, Engine, RowOutput, StepRow } from '../../packages/worker/src/engine/engine.ts'
import { createOnnxEngine } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import type { OperatorLibrary } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { ReferenceModel } from './reference-model.ts'
import type { TinyModel } from './tiny-models.ts'

export const testCapacity: Capacity = { sequences: 6, totalTokens: 64, slots: 4, maxRank: 8, chunkTokens: 16 }

export interface EngineUnderTest {
  readonly engine: Engine
  /** The plain model of the same weights. */
  readonly reference: ReferenceModel
  close(): Promise<void>
}

/** The ONNX engine on a tiny model, in a cache folder of its own; adapters by standard operators unless an operator is given. */
export async function openTestEngine(
  model: TinyModel,
  dtype: Dtype = 'fp32',
  capacity = testCapacity,
  operator?: OperatorLibrary,
): Promise<EngineUnderTest> {
  const cacheDir = await mkdtemp(path.join(tmpdir(), 'quiver-graphs-'))
  const loaded = await model.open()
  try {
    const reference = await ReferenceModel.load(loaded.spec, loaded.weights)
    const engine = await createOnnxEngine({
      model: loaded,
      dtype,
      capacity,
      cacheDir,
      threads: 1,
      operator,
      onProgress: () => {},
    })
    const close = async (): Promise<void> => {
      await engine.close()
      await rm(cacheDir, { recursive: true, force: true })
    }
    return { engine, reference, close }
  } finally {
    await loaded.weights.close()
  }
}

export interface TestSequence {
  readonly id: number
  readonly tokens: readonly number[]
  readonly slot?: number
}

/** The step rows that compute `tokens` of a sequence from `position` on. */
export function stepRows({ id, tokens, slot = BASE_SLOT }: TestSequence, position = 0): StepRow[] {
  return tokens.map((token, i) => ({ sequence: id as SequenceId, position: position + i, token, slot: slot as SlotIndex }))
}

/** Runs one step and answers a copy of every row's log-probabilities. */
export async function stepLogprobs(engine: Engine, rows: readonly StepRow[]): Promise<Float32Array[]> {
  const outputs: readonly RowOutput[] = await engine.step({ rows, wanted: rows.map((_, row) => ({ row, top: 1 })) })
  return outputs.map(({ logprobs }) => logprobs.slice())
}
