import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { SequenceId } from '@quiver/protocol'
import { BASE_SLOT } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Engine, StepRow } from '../../../../packages/worker/src/engine/engine.ts'
import { createOnnxEngine } from '../../../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { type TinyModel, tinyModels } from '../../../support/tiny-models.ts'

/** Largest difference of any log-probability from transformers' in float32. */
const TOLERANCE = 1e-3

let cacheDir: string
beforeAll(async () => {
  cacheDir = await mkdtemp(path.join(tmpdir(), 'quiver-graphs-'))
})
afterAll(() => rm(cacheDir, { recursive: true, force: true }))

async function openEngine(model: TinyModel): Promise<Engine> {
  const loaded = await model.open()
  try {
    return await createOnnxEngine({
      model: loaded,
      dtype: 'fp32',
      capacity: { sequences: 4, totalTokens: 64, slots: 2, maxRank: 8, chunkTokens: 16 },
      cacheDir,
      threads: 1,
      onProgress: () => {},
    })
  } finally {
    await loaded.weights.close()
  }
}

/** Log-probabilities of every position of the prompt, computed in pieces of the given lengths. */
async function promptLogprobs(engine: Engine, ids: readonly number[], pieces: readonly number[]): Promise<Float32Array[]> {
  const sequence = 7 as SequenceId
  const all: Float32Array[] = []
  let position = 0
  for (const length of pieces) {
    const rows: StepRow[] = ids
      .slice(position, position + length)
      .map((token, i) => ({ sequence, position: position + i, token, slot: BASE_SLOT }))
    const outputs = await engine.step({ rows, wanted: rows.map((_, row) => ({ row, top: 1 })) })
    all.push(...outputs.map(({ logprobs }) => logprobs.slice()))
    position += rows.length
  }
  engine.release(sequence)
  return all
}

function logSoftmax(logits: Float32Array): number[] {
  const largest = Math.max(...logits)
  const total = largest + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0))
  return Array.from(logits, (value) => value - total)
}

function largestDifference(model: TinyModel, computed: readonly Float32Array[]): number {
  const logits = model.logits()
  return Math.max(
    ...computed.map((row, position) => {
      const expected = logSoftmax(logits.subarray(position * model.vocabSize, (position + 1) * model.vocabSize))
      return Math.max(...expected.map((value, token) => Math.abs(value - (row[token] ?? Number.NaN))))
    }),
  )
}

describe.each(tinyModels)('$name', (model) => {
  let engine: Engine
  beforeAll(async () => {
    engine = await openEngine(model)
  })
  afterAll(() => engine.close())

  test('gives the log-probabilities of transformers for a whole prompt', async () => {
    const computed = await promptLogprobs(engine, model.promptIds, [model.promptIds.length])
    expect(largestDifference(model, computed)).toBeLessThan(TOLERANCE)
  })

  test('gives the same when the prompt comes in pieces and token by token', async () => {
    const rest = model.promptIds.length - 5
    const computed = await promptLogprobs(engine, model.promptIds, [5, ...Array<number>(rest).fill(1)])
    expect(largestDifference(model, computed)).toBeLessThan(TOLERANCE)
    const chunked = await promptLogprobs(engine, model.promptIds, [4, 3, 1, model.promptIds.length - 8])
    expect(largestDifference(model, chunked)).toBeLessThan(TOLERANCE)
  })
})
