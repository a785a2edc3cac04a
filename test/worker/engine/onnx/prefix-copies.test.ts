import type { SequenceId } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PrefixMemory } from '../../../../packages/worker/src/engine/engine.ts'
import { type EngineUnderTest, openTestEngine, stepLogprobs, stepRows, testCapacity } from '../../../support/engine-under-test.ts'
import { NEEDS_COMPILER, operatorUnderTest } from '../../../support/operator-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

let opened: EngineUnderTest
const tokens = [5, 6, 7, 8, 9, 10, 11, 12]
const sequence = (id: number) => id as SequenceId

function memoryOf({ engine }: EngineUnderTest): PrefixMemory {
  if (engine.prefix === undefined) throw new Error('this engine cannot copy keys and values')
  return engine.prefix
}

function copyOf(id: number, from: number, count: number): Uint8Array {
  const memory = memoryOf(opened)
  const copy = new Uint8Array(count * memory.tokenBytes)
  memory.copyOut(sequence(id), from, count, copy)
  return copy
}

const operator = await operatorUnderTest()
test.runIf(operator === undefined)(`by our own operator: ${NEEDS_COMPILER}`, ({ skip }) => skip())
const ways = [
  { name: 'standard operators', library: undefined },
  ...(operator ? [{ name: 'our operators', library: operator }] : []),
]

describe.each(ways)('with $name', ({ library }) => {
  beforeAll(async () => {
    opened = await openTestEngine(tinyModel('llama-fp32-tied'), 'fp32', testCapacity, library)
  })
  afterAll(() => opened.close())

  test('a sequence goes on from copied keys and values as from its own, to the last bit', async () => {
    const { engine } = opened
    await stepLogprobs(engine, stepRows({ id: 1, tokens }))
    const blocks = [copyOf(1, 0, 4), copyOf(1, 4, 4)]
    const next = { tokens: [13] }
    const own = await stepLogprobs(engine, stepRows({ id: 1, ...next }, 8))
    engine.release(sequence(1))
    // Others now lie where it lay, so that the copies must find their own place.
    await stepLogprobs(engine, [...stepRows({ id: 2, tokens: [1, 2, 3] }), ...stepRows({ id: 3, tokens: [4, 4] })])
    for (const [at, block] of blocks.entries()) memoryOf(opened).copyIn(sequence(4), at * 4, 4, block)
    const copied = await stepLogprobs(engine, stepRows({ id: 4, ...next }, 8))
    expect(copied).toEqual(own)
    expect([copyOf(4, 0, 4), copyOf(4, 4, 4)]).toEqual(blocks)
    for (const id of [2, 3, 4]) engine.release(sequence(id))
  })

  test('copies of 16 tokens each, as the cache makes them, put a sequence together again', async () => {
    const { engine } = opened
    const many = Array.from({ length: 37 }, (_, at) => 3 + ((at * 5) % 40))
    for (let at = 0; at < many.length; at += 16)
      await stepLogprobs(engine, stepRows({ id: 1, tokens: many.slice(at, at + 16) }, at))
    const blocks = [copyOf(1, 0, 16), copyOf(1, 16, 16)]
    const own = await stepLogprobs(engine, stepRows({ id: 1, tokens: [13] }, 37))
    for (const [at, block] of blocks.entries()) memoryOf(opened).copyIn(sequence(2), at * 16, 16, block)
    await stepLogprobs(engine, stepRows({ id: 2, tokens: many.slice(32) }, 32))
    expect(await stepLogprobs(engine, stepRows({ id: 2, tokens: [13] }, 37))).toEqual(own)
    for (const id of [1, 2]) engine.release(sequence(id))
  })

  test('what was computed can be copied while a later step runs', async () => {
    const { engine } = opened
    await stepLogprobs(engine, stepRows({ id: 1, tokens }))
    const before = copyOf(1, 0, 8)
    const running = stepLogprobs(engine, [...stepRows({ id: 1, tokens: [13] }, 8), ...stepRows({ id: 2, tokens: [3] })])
    const during = copyOf(1, 0, 8)
    await running
    expect([during, copyOf(1, 0, 8)]).toEqual([before, before])
    for (const id of [1, 2]) engine.release(sequence(id))
  })

  test('refuses to copy what was not computed, and to leave a gap', async () => {
    const { engine } = opened
    await stepLogprobs(engine, stepRows({ id: 1, tokens }))
    expect(() => copyOf(1, 5, 4)).toThrow('only what was computed')
    expect(() => memoryOf(opened).copyIn(sequence(2), 4, 4, copyOf(1, 4, 4))).toThrow('goes on where it stands')
    engine.release(sequence(1))
    engine.release(sequence(2))
  })
})
