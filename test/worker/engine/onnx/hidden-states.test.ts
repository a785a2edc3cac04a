import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { BASE_SLOT, type SequenceId, type SlotIndex } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readAdapter } from '../../../../packages/cache/src/format/inspect.ts'
import { packAdapter } from '../../../../packages/cache/src/format/pack.ts'
import { readPacked } from '../../../../packages/cache/src/format/packed-file.ts'
import { baseLayout } from '../../../../packages/worker/src/model/model-spec.ts'
import { largestDifference } from '../../../support/distribution.ts'
import { type EngineUnderTest, openTestEngine, stepRows } from '../../../support/engine-under-test.ts'
import { digestFor } from '../../../support/packed-adapters.ts'
import { type RandomAdapter, randomAdapter } from '../../../support/random-adapter.ts'
import { readFloats, tinyModel, tinyModelsFolder } from '../../../support/tiny-models.ts'

/** Largest difference of any number of a mean from the plain model's. */
const TOLERANCE = 1e-3
const PROMPT = [3, 17, 42, 99, 5, 120, 7, 64]

describe.each(['llama-fp32-tied', 'qwen3-bf16'])('hidden states of %s', (name) => {
  let opened: EngineUnderTest
  let adapter: RandomAdapter
  beforeAll(async () => {
    opened = await openTestEngine(tinyModel(name))
    adapter = randomAdapter(baseLayout(opened.engine.model), { seed: 1, rank: 4 })
    await opened.engine.loadAdapter(0 as SlotIndex, adapter.packed)
  })
  afterAll(() => opened.close())

  const expected = (tokens: readonly number[], slot: number): number[] => {
    const rows = opened.reference.hidden(tokens, slot < 0 ? undefined : adapter.delta)
    return Array.from(rows[0] ?? [], (_, i) => rows.reduce((sum, row) => sum + (row[i] ?? Number.NaN), 0) / rows.length)
  }
  const ids = (...sequences: number[]) => sequences as SequenceId[]
  const mean = (id: number) => opened.engine.meanHidden(id as SequenceId)
  const release = (...sequences: number[]): void => {
    for (const id of ids(...sequences)) opened.engine.release(id)
  }

  test('their mean is that of the plain model, for the base and for an adapter, in one step', async () => {
    const rows = [...stepRows({ id: 1, tokens: PROMPT }), ...stepRows({ id: 2, slot: 0, tokens: PROMPT.slice(2) })]
    expect(await opened.engine.step({ rows, wanted: [], pooled: ids(1, 2) })).toEqual([])
    expect(largestDifference(expected(PROMPT, -1), mean(1))).toBeLessThan(TOLERANCE)
    expect(largestDifference(expected(PROMPT.slice(2), 0), mean(2))).toBeLessThan(TOLERANCE)
    expect(largestDifference(expected(PROMPT.slice(2), -1), mean(2))).toBeGreaterThan(0.01)
    release(1, 2)
  })

  test('their mean is the same when the prompt comes in pieces, some of a single row, beside sequences that generate', async () => {
    const whole = expected(PROMPT, 0)
    let position = 0
    for (const [step, length] of [3, 1, 2, 1, 1].entries()) {
      const piece = stepRows({ id: 3, slot: 0, tokens: PROMPT.slice(position, position + length) }, position)
      const other = stepRows({ id: 4, tokens: [position + 9] }, step)
      const outputs = await opened.engine.step({ rows: [...other, ...piece], wanted: [{ row: 0, top: 1 }], pooled: ids(3) })
      expect(outputs.map(({ row }) => row)).toEqual([0])
      position += length
    }
    expect(largestDifference(whole, mean(3))).toBeLessThan(TOLERANCE)
    release(3, 4)
  })

  test('a step that asks for them answers the same log-probabilities as one that does not', async () => {
    const step = async (id: number, pooled: SequenceId[]) => {
      const rows = stepRows({ id, slot: 0, tokens: PROMPT })
      const outputs = await opened.engine.step({ rows, wanted: [{ row: rows.length - 1, top: 2 }], pooled })
      return outputs.map(({ logprobs, topIds }) => ({ logprobs: logprobs.slice(), topIds }))
    }
    expect(await step(5, ids(5))).toEqual(await step(6, []))
    release(5, 6)
  })

  test('are refused of a sequence that did not ask, and forgotten with the sequence', async () => {
    await opened.engine.step({ rows: stepRows({ id: 7, tokens: PROMPT }), wanted: [], pooled: ids(7) })
    release(7)
    await opened.engine.step({ rows: stepRows({ id: 7, tokens: PROMPT }), wanted: [] })
    expect(() => mean(7)).toThrow('no hidden states of sequence 7')
    release(7)
  })
})

test('the mean over a prompt is that of transformers’ last hidden state, as it is and with an adapter that PEFT applies', async () => {
  const model = tinyModel('llama-fp32-tied')
  const folder = join(tinyModelsFolder, model.name)
  const opened = await openTestEngine(model)
  try {
    const layout = baseLayout(opened.engine.model)
    const [config, weights] = ['adapter_config.json', 'adapter_model.safetensors'].map(
      (name) => new Uint8Array(readFileSync(join(folder, 'adapter', name))),
    ) as [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>]
    const packing = { digest: digestFor('adapter'), layout, dtype: 'f32' } as const
    const { file } = await packAdapter(await readAdapter({ config, weights }, layout, 8), packing)
    await opened.engine.loadAdapter(0 as SlotIndex, await readPacked(file, packing))
    const rows = [BASE_SLOT, 0].flatMap((slot, id) => stepRows({ id, slot, tokens: model.promptIds }))
    await opened.engine.step({ rows, wanted: [], pooled: [0, 1] as SequenceId[] })
    const means = [0, 1].flatMap((id) => [...opened.engine.meanHidden(id as SequenceId)])
    expect(largestDifference([...readFloats(join(folder, 'embeddings.bin'))], means)).toBeLessThan(TOLERANCE)
  } finally {
    await opened.close()
  }
})
