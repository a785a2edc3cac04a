import { expect, test } from 'vitest'
import type { Answered, Ask } from '../../bench/serve/contestant.ts'
import { closedLoop, poissonArrivals } from '../../bench/serve/load.ts'
import { Prompts } from '../../bench/serve/prompts.ts'
import { seededRandom } from '../../bench/shared/random.ts'
import { zipfSampler } from '../../bench/simulator/workload.ts'

const ask = (adapter: number): Ask => ({ prompt: 'p', promptIds: [1], newTokens: 3, adapter })
const answered: Answered = { firstTokenMs: 1, endMs: 2 }

/** Answers a request when told to, and knows how many are under way. */
class HeldServer {
  readonly asked: Ask[] = []
  readonly #held: (() => void)[] = []
  most = 0

  stream(one: Ask): Promise<Answered> {
    this.asked.push(one)
    return new Promise((resolve) => {
      this.#held.push(() => resolve(answered))
      this.most = Math.max(this.most, this.#held.length)
    })
  }

  answerOldest(): void {
    this.#held.shift()?.()
  }
}

test('a closed loop keeps so many requests under way and no more, until all are answered', async () => {
  const server = new HeldServer()
  const asks = Array.from({ length: 10 }, (_, i) => ask(i))
  const done = closedLoop(server, asks, 3)
  for (let answers = 1; answers <= 10; answers += 1) {
    expect(server.asked).toHaveLength(Math.min(10, answers + 2))
    server.answerOldest()
    await new Promise(setImmediate)
  }
  expect((await done).answers).toHaveLength(10)
  expect(server.asked).toEqual(asks)
  expect(server.most).toBe(3)
})

test('arrivals do not wait for answers', async () => {
  const server = new HeldServer()
  const options = { perSecond: 10_000, random: seededRandom(1), signal: new AbortController().signal }
  const done = poissonArrivals(server, [ask(0), ask(1), ask(2)], options)
  while (server.asked.length < 3) await new Promise(setImmediate)
  expect(server.most).toBe(3)
  for (let i = 0; i < 3; i += 1) server.answerOldest()
  expect((await done).answers).toHaveLength(3)
})

test('the first adapter of a Zipf draw comes as often as its weight says', () => {
  const draw = zipfSampler(100, 1, seededRandom(7))
  const counts = new Map<number, number>()
  for (let i = 0; i < 20_000; i += 1) {
    const k = draw()
    counts.set(k, (counts.get(k) ?? 0) + 1)
  }
  const harmonic = Array.from({ length: 100 }, (_, k) => 1 / (k + 1)).reduce((sum, weight) => sum + weight, 0)
  expect((counts.get(0) ?? 0) / 20_000).toBeCloseTo(1 / harmonic, 1)
  expect(Math.max(...counts.keys())).toBeLessThan(100)
})

test('prompts are as long as asked for and no two begin alike', () => {
  // Every word of four letters or fewer is one token, longer ones are two.
  const tokenizer = {
    encode: (text: string) => text.split(' ').flatMap((word) => (word.length > 4 ? [word.length, 0] : [word.length])),
  }
  const prompts = new Prompts(tokenizer, seededRandom(3))
  const made = Array.from({ length: 50 }, () => prompts.next(128))
  expect(made.map(({ promptIds }) => promptIds.length)).toEqual(made.map(() => 128))
  expect(new Set(made.map(({ prompt }) => prompt.slice(0, 60))).size).toBe(50)
})
