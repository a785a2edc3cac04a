/** Workers that fail or are slow get nothing for a while, and never too many of them. */
import { describe, expect, test } from 'vitest'
import { Ejections, ejectionRules } from '../../../packages/gateway/src/worker/ejections.ts'
import { ManualClock } from '../../support/manual-clock.ts'

function pool(count: number) {
  const clock = new ManualClock()
  const ejections = new Ejections(clock)
  const workers = Array.from({ length: count }, (_, index) => `w${index}`)
  for (const worker of workers) ejections.add(worker)
  return { clock, ejections, workers, out: () => workers.filter((worker) => ejections.isOut(worker)) }
}

const fail = (ejections: Ejections, worker: string, times = ejectionRules.failures) => {
  for (let time = 0; time < times; time++) ejections.failed(ejections.sent(worker))
}

describe('a worker that fails', () => {
  test('again and again is out, and one that fails now and then is not', () => {
    const { ejections, out } = pool(3)
    for (let round = 0; round < 10; round++) {
      fail(ejections, 'w0', ejectionRules.failures - 1)
      ejections.succeeded(ejections.sent('w0'))
    }
    expect(out()).toEqual([])
    fail(ejections, 'w0')
    expect(out()).toEqual(['w0'])
  })

  test('is tried with one request after the pause, and is back when that goes well', () => {
    const { clock, ejections, out } = pool(3)
    fail(ejections, 'w0')
    clock.advance(ejectionRules.firstMs - 1)
    expect(out()).toEqual(['w0'])
    clock.advance(1)
    expect(out()).toEqual([])
    const trial = ejections.sent('w0')
    expect(out()).toEqual(['w0'])
    ejections.succeeded(trial)
    expect(out()).toEqual([])
    fail(ejections, 'w0', ejectionRules.failures - 1)
    expect(out()).toEqual([])
  })

  test('is out for twice as long when the trial fails, up to a bound, and is tried again when the trial ends undecided', () => {
    const { clock, ejections, out } = pool(3)
    fail(ejections, 'w0')
    for (let pauseMs = ejectionRules.firstMs, round = 0; round < 8; round++) {
      clock.advance(pauseMs - 1)
      expect(out(), `before ${pauseMs} ms`).toEqual(['w0'])
      clock.advance(1)
      expect(out(), `after ${pauseMs} ms`).toEqual([])
      ejections.undecided(ejections.sent('w0'))
      expect(out()).toEqual([])
      ejections.failed(ejections.sent('w0'))
      pauseMs = Math.min(ejectionRules.longestMs, pauseMs * 2)
    }
  })
})

// In a cluster whose slow worker had six answers under way when it was left out, each of them doubled the pause.
test('what was sent before a worker was left out does not keep it out for longer, nor bring it back', () => {
  const { clock, ejections, out } = pool(3)
  const before = Array.from({ length: 6 }, () => ejections.sent('w0'))
  fail(ejections, 'w0')
  for (const attempt of before.slice(0, 3)) ejections.failed(attempt)
  for (const attempt of before.slice(3, 5)) ejections.succeeded(attempt, 1)
  clock.advance(ejectionRules.firstMs - 1)
  expect(out()).toEqual(['w0'])
  clock.advance(1)
  const trial = ejections.sent('w0')
  for (const attempt of before.slice(5)) ejections.succeeded(attempt)
  expect(out()).toEqual(['w0'])
  ejections.succeeded(trial)
  expect(out()).toEqual([])
})

describe('at most a share of the pool is out', () => {
  test.each([
    [1, 0],
    [2, 1],
    [3, 1],
    [6, 2],
    [9, 3],
  ])('G07 of %i workers that all fail, %i', (count, most) => {
    const { ejections, workers, out } = pool(count)
    for (const worker of workers) fail(ejections, worker)
    expect(out()).toHaveLength(most)
  })
})

describe('a worker that is far slower than the others', () => {
  const answer = (ejections: Ejections, worker: string, tokenMs: number, times = ejectionRules.answers) => {
    for (let time = 0; time < times; time++) ejections.succeeded(ejections.sent(worker), tokenMs)
  }

  test('G07 is out, and back when a trial is as fast as theirs', () => {
    const { clock, ejections, out } = pool(3)
    for (const worker of ['w1', 'w2']) answer(ejections, worker, 10)
    answer(ejections, 'w0', 100)
    expect(out()).toEqual(['w0'])
    clock.advance(ejectionRules.firstMs)
    ejections.succeeded(ejections.sent('w0'), 100)
    expect(out()).toEqual(['w0'])
    clock.advance(2 * ejectionRules.firstMs)
    ejections.succeeded(ejections.sent('w0'), 12)
    expect(out()).toEqual([])
  })

  test('is not out for a few slow answers, nor when nobody waits for it, nor when all are as slow, nor when it is alone', () => {
    const { ejections, out } = pool(3)
    for (const worker of ['w1', 'w2']) answer(ejections, worker, 10)
    answer(ejections, 'w0', 100, ejectionRules.answers - 1)
    expect(out()).toEqual([])
    const fast = pool(3)
    for (const worker of ['w1', 'w2']) answer(fast.ejections, worker, 1)
    answer(fast.ejections, 'w0', ejectionRules.slowMs)
    expect(fast.out()).toEqual([])
    const alike = pool(3)
    for (const worker of alike.workers) answer(alike.ejections, worker, 500)
    expect(alike.out()).toEqual([])
    const alone = pool(1)
    answer(alone.ejections, 'w0', 500)
    expect(alone.out()).toEqual([])
  })
})
