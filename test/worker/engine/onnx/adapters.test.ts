import type { SequenceId, SlotIndex } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { baseLayout } from '../../../../packages/worker/src/model/model-spec.ts'
import { largestDifference, logSoftmax } from '../../../support/distribution.ts'
import {
  type EngineUnderTest,
  openTestEngine,
  stepLogprobs,
  stepRows,
  type TestSequence,
  testCapacity,
} from '../../../support/engine-under-test.ts'
import { NEEDS_COMPILER, operatorUnderTest } from '../../../support/operator-under-test.ts'
import { type RandomAdapter, randomAdapter } from '../../../support/random-adapter.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

/** Largest difference of any log-probability from the plain model's, both in float32 or better. */
const TOLERANCE = 2e-3
const PROMPT = [3, 17, 42, 99, 5, 120, 7, 64]
const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const

const operator = await operatorUnderTest()
test.runIf(operator === undefined)(`adapters by our own operator: ${NEEDS_COMPILER}`, ({ skip }) => skip())

const models = ['llama-fp32-tied', 'qwen2-bf16', 'qwen3-bf16']
const ways = [
  ...models.map((name) => ({ name, by: 'standard operators', library: undefined })),
  ...(operator === undefined ? [] : models.map((name) => ({ name, by: 'our own operator', library: operator }))),
]

describe.each(ways)('adapters on $name by $by', ({ name, library }) => {
  let opened: EngineUnderTest
  let adapters: RandomAdapter[]
  beforeAll(async () => {
    opened = await openTestEngine(tinyModel(name), 'fp32', testCapacity, library)
    const layout = baseLayout(opened.engine.model)
    adapters = [
      randomAdapter(layout, { seed: 1, rank: 8 }),
      randomAdapter(layout, { seed: 2, rank: 1, modules: ATTENTION }),
      randomAdapter(layout, { seed: 3, rank: 5, rankOf: (module, layer) => (module === 'q_proj' ? 5 : 2 + layer) }),
      randomAdapter(layout, { seed: 4, rank: 3, modules: ['down_proj'] }),
    ]
    for (const [slot, { packed }] of adapters.entries()) await opened.engine.loadAdapter(slot as SlotIndex, packed)
  })
  afterAll(() => opened.close())

  const expected = (tokens: readonly number[], slot: number): number[] => {
    const logits = opened.reference.logits(tokens, slot < 0 ? undefined : adapters[slot]?.delta)
    return logSoftmax(logits.subarray((tokens.length - 1) * opened.reference.spec.vocabSize))
  }
  const release = (...ids: number[]): void => {
    for (const id of ids) opened.engine.release(id as SequenceId)
  }

  test('answers a mixed batch of four adapters of different ranks and the base as the plain model does', async () => {
    const sequences: TestSequence[] = [2, -1, 0, 3, 1, 0].map((slot, id) => ({ id, slot, tokens: PROMPT.slice(id % 3) }))
    for (const sequence of sequences) await stepLogprobs(opened.engine, stepRows(sequence))
    for (const round of [0, 1, 2]) {
      const rows = sequences.flatMap(({ id, slot = -1, tokens }) =>
        stepRows({ id, slot, tokens: [round + 10 + id] }, tokens.length + round),
      )
      const computed = await stepLogprobs(opened.engine, rows)
      for (const [i, { id, slot = -1, tokens }] of sequences.entries()) {
        const all = [...tokens, ...Array.from({ length: round + 1 }, (_, past) => past + 10 + id)]
        expect(largestDifference(expected(all, slot), computed[i] ?? [])).toBeLessThan(TOLERANCE)
      }
    }
    release(...sequences.map(({ id }) => id))
  })

  test('computes prefill pieces and decode rows of different adapters in one step', async () => {
    await stepLogprobs(opened.engine, stepRows({ id: 0, slot: 1, tokens: PROMPT }))
    const rows = [
      ...stepRows({ id: 1, slot: 0, tokens: PROMPT }),
      ...stepRows({ id: 0, slot: 1, tokens: [11] }, PROMPT.length),
      ...stepRows({ id: 2, slot: -1, tokens: PROMPT.slice(0, 5) }),
    ]
    const computed = await stepLogprobs(opened.engine, rows)
    expect(largestDifference(expected(PROMPT, 0), computed[PROMPT.length - 1] ?? [])).toBeLessThan(TOLERANCE)
    expect(largestDifference(expected([...PROMPT, 11], 1), computed[PROMPT.length] ?? [])).toBeLessThan(TOLERANCE)
    expect(largestDifference(expected(PROMPT.slice(0, 5), -1), computed.at(-1) ?? [])).toBeLessThan(TOLERANCE)
    release(0, 1, 2)
  })

  test('leaves nothing of a slot’s last adapter behind when a smaller one takes its place', async () => {
    const layout = baseLayout(opened.engine.model)
    const small = randomAdapter(layout, { seed: 9, rank: 2, modules: ['v_proj'] })
    await opened.engine.loadAdapter(0 as SlotIndex, small.packed)
    const computed = await stepLogprobs(opened.engine, [
      ...stepRows({ id: 0, slot: 0, tokens: PROMPT }),
      ...stepRows({ id: 1, slot: 2, tokens: PROMPT }),
    ])
    const logits = opened.reference.logits(PROMPT, small.delta)
    const last = logSoftmax(logits.subarray((PROMPT.length - 1) * opened.reference.spec.vocabSize))
    expect(largestDifference(last, computed[PROMPT.length - 1] ?? [])).toBeLessThan(TOLERANCE)
    expect(largestDifference(expected(PROMPT, 2), computed.at(-1) ?? [])).toBeLessThan(TOLERANCE)
    release(0, 1)
    const first = adapters[0]
    if (first) await opened.engine.loadAdapter(0 as SlotIndex, first.packed)
  })

  test('an adapter whose products overflow spoils nobody else’s answer', async () => {
    const huge = randomAdapter(baseLayout(opened.engine.model), { seed: 7, rank: 8 })
    for (const { a, b } of huge.packed.modules) for (const values of [a, b]) values.fill(3e38)
    await opened.engine.loadAdapter(3 as SlotIndex, huge.packed)
    const sequences: TestSequence[] = [3, -1, 0, 3, -1].map((slot, id) => ({ id, slot, tokens: PROMPT.slice(id) }))
    for (const sequence of sequences) await stepLogprobs(opened.engine, stepRows(sequence))
    const rows = sequences.flatMap(({ id, slot = -1, tokens }) => stepRows({ id, slot, tokens: [33] }, tokens.length))
    const computed = await stepLogprobs(opened.engine, rows)
    for (const [i, { slot = -1, tokens }] of sequences.entries()) {
      if (slot === 3) expect(computed[i]?.[0]).toBeNaN()
      else expect(largestDifference(expected([...tokens, 33], slot), computed[i] ?? [])).toBeLessThan(TOLERANCE)
    }
    release(...sequences.map(({ id }) => id))
    // In the rows that were left, behind whose ends NaN still lies.
    const next = [0, 1, 2].map((id) => ({ id, slot: id - 1, tokens: PROMPT.slice(0, 2) }))
    for (const sequence of next) await stepLogprobs(opened.engine, stepRows(sequence))
    const later = await stepLogprobs(
      opened.engine,
      next.flatMap(({ id, slot }) => stepRows({ id, slot, tokens: [33] }, 2)),
    )
    for (const [i, { slot }] of next.entries()) {
      expect(largestDifference(expected([...PROMPT.slice(0, 2), 33], slot), later[i] ?? [])).toBeLessThan(TOLERANCE)
    }
    release(0, 1, 2)
    const usual = adapters[3]
    if (usual) await opened.engine.loadAdapter(3 as SlotIndex, usual.packed)
  })

  test('keeps every other sequence’s answer when sequences leave from the middle of the batch', async () => {
    const sequences = [0, 1, 2, 3, 4].map((id) => ({ id, slot: id - 1, tokens: PROMPT.map((token) => token + id) }))
    for (const sequence of sequences) await stepLogprobs(opened.engine, stepRows(sequence))
    release(1, 3)
    await stepLogprobs(opened.engine, stepRows({ id: 5, slot: 3, tokens: PROMPT }))
    const left = [...sequences.filter(({ id }) => id !== 1 && id !== 3), { id: 5, slot: 3, tokens: PROMPT }]
    // Not in the order in which they lie in the cache.
    const order = left.toReversed()
    const computed = await stepLogprobs(
      opened.engine,
      order.flatMap(({ id, slot, tokens }) => stepRows({ id, slot, tokens: [33] }, tokens.length)),
    )
    for (const [i, { slot, tokens }] of order.entries()) {
      expect(largestDifference(expected([...tokens, 33], slot), computed[i] ?? [])).toBeLessThan(TOLERANCE)
    }
    release(...left.map(({ id }) => id))
  })

  test('decodes some sequences while others stand still between them', async () => {
    const sequences = [0, 1, 2, 3].map((id) => ({ id, slot: id, tokens: PROMPT.map((token) => token + id) }))
    for (const sequence of sequences) await stepLogprobs(opened.engine, stepRows(sequence))
    for (const chosen of [
      [1, 3],
      [0, 2],
      [3, 0, 1],
    ]) {
      const rows = chosen.flatMap((id) => {
        const { slot, tokens } = sequences[id] as (typeof sequences)[number]
        return stepRows({ id, slot, tokens: [50] }, tokens.length)
      })
      const computed = await stepLogprobs(opened.engine, rows)
      for (const [i, id] of chosen.entries()) {
        const { slot, tokens } = sequences[id] as (typeof sequences)[number]
        expect(largestDifference(expected([...tokens, 50], slot), computed[i] ?? [])).toBeLessThan(TOLERANCE)
        tokens.push(50)
      }
    }
    release(0, 1, 2, 3)
  })
})
