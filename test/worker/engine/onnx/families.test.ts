import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { largestDifference, logSoftmax } from '../../../support/distribution.ts'
import { type EngineUnderTest, openTestEngine, stepLogprobs, stepRows } from '../../../support/engine-under-test.ts'
import { type TinyModel, tinyModels } from '../../../support/tiny-models.ts'

/** Largest difference of any log-probability from transformers' in float32. */
const TOLERANCE = 1e-3

/** Log-probabilities of every position of the prompt, computed in pieces of the given lengths. */
async function promptLogprobs(
  { engine }: EngineUnderTest,
  ids: readonly number[],
  pieces: readonly number[],
): Promise<Float32Array[]> {
  const all: Float32Array[] = []
  for (const length of pieces) {
    const tokens = ids.slice(all.length, all.length + length)
    all.push(...(await stepLogprobs(engine, stepRows({ id: 7, tokens }, all.length))))
  }
  for (const { sequence } of stepRows({ id: 7, tokens: [0] })) engine.release(sequence)
  return all
}

function distance(model: TinyModel, computed: readonly Float32Array[]): number {
  const logits = model.logits()
  return Math.max(
    ...computed.map((row, position) =>
      largestDifference(logSoftmax(logits.subarray(position * model.vocabSize, (position + 1) * model.vocabSize)), row),
    ),
  )
}

describe.each(tinyModels)('$name', (model) => {
  let opened: EngineUnderTest
  beforeAll(async () => {
    opened = await openTestEngine(model)
  })
  afterAll(() => opened.close())

  test('gives the log-probabilities of transformers for a whole prompt', async () => {
    const computed = await promptLogprobs(opened, model.promptIds, [model.promptIds.length])
    expect(distance(model, computed)).toBeLessThan(TOLERANCE)
  })

  test('gives the same when the prompt comes in pieces and token by token', async () => {
    const { length } = model.promptIds
    const tokenByToken = await promptLogprobs(opened, model.promptIds, [5, ...Array<number>(length - 5).fill(1)])
    expect(distance(model, tokenByToken)).toBeLessThan(TOLERANCE)
    const pieces = await promptLogprobs(opened, model.promptIds, [4, 3, 1, length - 8])
    expect(distance(model, pieces)).toBeLessThan(TOLERANCE)
  })
})
