import type { SequenceId } from '@quiver/protocol'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type EngineUnderTest, openTestEngine, stepLogprobs, stepRows } from '../../../support/engine-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

let opened: EngineUnderTest
beforeAll(async () => {
  opened = await openTestEngine(tinyModel('llama-fp32-tied'))
})
afterAll(() => opened.close())

const release = (id: number): void => opened.engine.release(id as SequenceId)

test('answers wanted rows only, in their order, with as many alternatives as asked for', async () => {
  const rows = [...stepRows({ id: 1, tokens: [5, 6, 7] }), ...stepRows({ id: 2, tokens: [8] })]
  const outputs = await opened.engine.step({
    rows,
    wanted: [
      { row: 1, top: 3 },
      { row: 3, top: 1 },
    ],
  })
  expect(outputs.map(({ row }) => row)).toEqual([1, 3])
  const [first] = outputs
  expect(first?.topIds.length).toBeGreaterThanOrEqual(3)
  expect(first?.topLogprobs[0]).toBe(Math.max(...(first?.logprobs ?? [])))
  expect(first?.logprobs[first.topIds[2] ?? -1]).toBe(first?.topLogprobs[2])
  release(1)
  release(2)
})

test('log-probabilities sum to one', async () => {
  const [row] = await stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [5] }))
  expect(row?.reduce((sum, value) => sum + Math.exp(value), 0)).toBeCloseTo(1, 5)
  release(1)
})

test('tells the sum that turns log-probabilities back into logits', async () => {
  const outputs = await opened.engine.step({ rows: stepRows({ id: 1, tokens: [5] }), wanted: [{ row: 0, top: 1 }] })
  const logits = opened.reference.logits([5])
  const [output] = outputs
  const distances = Array.from(output?.logprobs ?? [], (value, i) => value + (output?.logSumExp ?? Number.NaN) - (logits[i] ?? 0))
  expect(Math.max(...distances.map(Math.abs))).toBeLessThan(1e-3)
  release(1)
})

test('a step of which nothing is wanted only fills the cache', async () => {
  const whole = await stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [5, 6, 7, 8] }))
  release(1)
  expect(await opened.engine.step({ rows: stepRows({ id: 1, tokens: [5, 6, 7] }), wanted: [] })).toEqual([])
  const [last] = await stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [8] }, 3))
  expect(Math.max(...(last ?? []).map((value, i) => Math.abs(value - (whole[3]?.[i] ?? Number.NaN))))).toBeLessThan(1e-4)
  release(1)
})

test('leaves the event loop free while it computes', async () => {
  let turns = 0
  const counting = setInterval(() => {
    turns += 1
  }, 0)
  for (let i = 0; i < 20; i += 1) await stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [i] }, i))
  clearInterval(counting)
  release(1)
  expect(turns).toBeGreaterThan(0)
})

test('refuses a second step while one is running', async () => {
  const running = stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [5] }))
  await expect(stepLogprobs(opened.engine, stepRows({ id: 2, tokens: [5] }))).rejects.toThrow('one step at a time')
  await running
  release(1)
})

test('refuses rows that leave a gap after what was computed', async () => {
  await stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [5, 6] }))
  await expect(stepLogprobs(opened.engine, stepRows({ id: 1, tokens: [7] }, 3))).rejects.toThrow('goes on where it stopped')
  release(1)
})

test('refuses more sequences than it has rows for and takes the next when one has left', async () => {
  for (const id of [1, 2, 3, 4, 5, 6]) await stepLogprobs(opened.engine, stepRows({ id, tokens: [id] }))
  await expect(stepLogprobs(opened.engine, stepRows({ id: 7, tokens: [7] }))).rejects.toThrow('more sequences')
  release(3)
  await stepLogprobs(opened.engine, stepRows({ id: 7, tokens: [7] }))
  for (const id of [1, 2, 4, 5, 6, 7]) release(id)
})
