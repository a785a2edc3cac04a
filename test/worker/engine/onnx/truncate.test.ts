import type { SequenceId } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type EngineUnderTest, openTestEngine, stepLogprobs, stepRows, testCapacity } from '../../../support/engine-under-test.ts'
import { NEEDS_COMPILER, operatorUnderTest } from '../../../support/operator-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

let opened: EngineUnderTest
const tokens = [5, 6, 7, 8, 9, 10, 11, 12]
const sequence = (id: number) => id as SequenceId

const operator = await operatorUnderTest()
test.runIf(operator === undefined)(`by our own operator: ${NEEDS_COMPILER}`, ({ skip }) => skip())
const ways = [
  { name: 'standard operators', library: undefined },
  ...(operator ? [{ name: 'our operators', library: operator }] : []),
]

/** The greatest distance between two distributions. */
function distance(a: Float32Array | undefined, b: Float32Array | undefined): number {
  return Math.max(...Array.from(a ?? [Number.NaN], (value, i) => Math.abs(value - (b?.[i] ?? Number.NaN))))
}

describe.each(ways)('with $name', ({ library }) => {
  beforeAll(async () => {
    opened = await openTestEngine(tinyModel('llama-fp32-tied'), 'fp32', testCapacity, library)
  })
  afterAll(() => opened.close())

  test('a sequence goes on after rows that were taken back as if they had never been', async () => {
    const { engine } = opened
    const expected = await stepLogprobs(engine, stepRows({ id: 1, tokens }))
    await stepLogprobs(engine, stepRows({ id: 2, tokens: tokens.slice(0, 4) }))
    await stepLogprobs(engine, stepRows({ id: 2, tokens: [40, 41, 42] }, 4))
    engine.truncate(sequence(2), 4)
    const [again] = await stepLogprobs(engine, stepRows({ id: 2, tokens: [9] }, 4))
    expect(distance(again, expected[4])).toBeLessThan(1e-4)
    const rest = await stepLogprobs(engine, stepRows({ id: 2, tokens: tokens.slice(5) }, 5))
    for (const [index, row] of rest.entries()) expect(distance(row, expected[5 + index])).toBeLessThan(1e-4)
    for (const id of [1, 2]) engine.release(sequence(id))
  })

  test('rows of guesses answer what the rows of steps of their own do, beside others that have one row', async () => {
    const { engine } = opened
    const expected = await stepLogprobs(engine, stepRows({ id: 1, tokens }))
    await stepLogprobs(engine, [...stepRows({ id: 2, tokens: tokens.slice(0, 3) }), ...stepRows({ id: 3, tokens: [9, 9] })])
    const mixed = await stepLogprobs(engine, [
      ...stepRows({ id: 2, tokens: tokens.slice(3, 7) }, 3),
      ...stepRows({ id: 3, tokens: [4] }, 2),
    ])
    for (let row = 0; row < 4; row++) expect(distance(mixed[row], expected[3 + row])).toBeLessThan(1e-4)
    for (const id of [1, 2, 3]) engine.release(sequence(id))
  })

  test('what was never computed, or is summed up, is not taken back', async () => {
    const { engine } = opened
    await stepLogprobs(engine, stepRows({ id: 1, tokens: [5, 6] }))
    expect(() => engine.truncate(sequence(1), 3)).toThrow('only rows that were computed')
    engine.release(sequence(1))
    await engine.step({ rows: stepRows({ id: 2, tokens: [5, 6] }), wanted: [], pooled: [sequence(2)] })
    expect(() => engine.truncate(sequence(2), 1)).toThrow('not summed up')
    engine.release(sequence(2))
  })
})
