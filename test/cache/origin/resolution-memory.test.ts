import { ServingError } from '@quiver/protocol'
import { expect, it } from 'vitest'
import { ResolutionMemory } from '../../../packages/cache/src/origin/resolution-memory.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { refusal } from '../../support/refusal.ts'

function underTest() {
  const clock = new ManualClock()
  return { clock, memory: new ResolutionMemory<{ readonly n: number }>(clock, 1_000) }
}

it('believes an answer for as long as it was told, and asks again after that', async () => {
  const { clock, memory } = underTest()
  let n = 0
  const ask = async () => ({ n: ++n })
  const asked: number[] = []
  for (const passed of [0, 999, 1, 0]) {
    clock.advance(passed)
    asked.push((await memory.get('a', ask)).n)
  }
  expect(asked).toEqual([1, 1, 2, 2])
})

it('remembers a failure for a second, then two, and forgets what was known before it', async () => {
  const { clock, memory } = underTest()
  await memory.get('a', async () => ({ n: 1 }))
  clock.advance(1_000)
  let asked = 0
  const fail = async () => {
    asked += 1
    throw new ServingError('forbidden', 'no')
  }
  for (const passed of [0, 999, 1, 1_999, 1]) {
    clock.advance(passed)
    expect((await refusal(() => memory.get('a', fail))).code).toBe('forbidden')
  }
  expect(asked).toBe(3)
})

it('asks at most sixteen questions at once', async () => {
  const { memory } = underTest()
  let [now, most] = [0, 0]
  const ask = async () => {
    now += 1
    most = Math.max(most, now)
    await new Promise((resolve) => setImmediate(resolve))
    now -= 1
    return { n: 1 }
  }
  await Promise.all(Array.from({ length: 100 }, (_, at) => memory.get(`key ${at}`, ask)))
  expect(most).toBe(16)
})
