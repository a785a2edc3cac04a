import { expect, test } from 'vitest'
import { interleave } from '../../bench/shared/interleave.ts'
import { seededRandom, shuffled } from '../../bench/shared/random.ts'

const signal = new AbortController().signal

test('measures every variant once a round, in an order that changes', async () => {
  const order: string[] = []
  const samples = await interleave(['a', 'b', 'c'], { rounds: 20, random: seededRandom(1), signal }, async (variant, round) => {
    order.push(variant)
    return round
  })
  const rounds = Array.from({ length: 20 }, (_, round) => order.slice(round * 3, round * 3 + 3))
  for (const round of rounds) expect(round.toSorted()).toEqual(['a', 'b', 'c'])
  expect(new Set(rounds.map((round) => round.join(''))).size).toBeGreaterThan(1)
  expect(samples.of('b')).toEqual(Array.from({ length: 20 }, (_, round) => round))
})

test('keeps nothing of a measurement that does not count', async () => {
  const samples = await interleave(['a'], { rounds: 3, random: seededRandom(1), signal }, async (_, round) =>
    round === 0 ? undefined : round,
  )
  expect(samples.of('a')).toEqual([1, 2])
})

test('ends between two measurements when it is called off', async () => {
  const stopping = new AbortController()
  let count = 0
  const run = interleave(['a', 'b'], { rounds: 5, random: seededRandom(1), signal: stopping.signal }, async () => {
    count += 1
    if (count === 3) stopping.abort(new Error('enough'))
    return 1
  })
  await expect(run).rejects.toThrow('enough')
  expect(count).toBe(3)
})

test('draws the same order from the same seed', () => {
  const things = [...Array(10).keys()]
  expect(shuffled(things, seededRandom(5))).toEqual(shuffled(things, seededRandom(5)))
  expect(shuffled(things, seededRandom(5))).not.toEqual(shuffled(things, seededRandom(6)))
  expect(shuffled(things, seededRandom(5)).toSorted((x, y) => x - y)).toEqual(things)
})
