import { describe, expect, it } from 'vitest'
import { Retries, RetryPurse } from '../../../packages/cache/src/store/s3/s3-retries.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const policy = { attempts: 5, budgetMs: 60_000, firstPauseMs: 100, longestPauseMs: 300 }

/** One operation of which every attempt fails: the pauses that it makes. */
async function pausesOf(draw: number, { attemptMs = 0, purse = new RetryPurse(), gains = 0 } = {}): Promise<readonly number[]> {
  const clock = new ManualClock()
  const retries = new Retries(policy, { clock, timers: clock, random: () => draw }, purse)
  const pauses: number[] = []
  for (;;) {
    clock.advance(attemptMs)
    if (retries.attempts <= gains) retries.gained()
    const begunMs = clock.nowMs()
    const again = retries.again(undefined)
    clock.advance(0)
    // Whatever the pause: in steps, until it is over.
    for (let isOver = false; !isOver; ) {
      isOver = await Promise.race([again.then(() => true), new Promise<false>((resolve) => setImmediate(resolve, false))])
      if (!isOver) clock.advance(1)
    }
    if (!(await again)) return pauses
    pauses.push(clock.nowMs() - begunMs)
  }
}

describe('repetitions', () => {
  it('O03 wait longer each time, up to a longest pause, drawn from nothing to all of it', async () => {
    expect(await pausesOf(0.99999)).toEqual([100, 200, 300, 300])
    expect(await pausesOf(0.5)).toEqual([50, 100, 150, 150])
    expect(await pausesOf(0)).toEqual([0, 0, 0, 0])
  })

  it('O03 begin only within their time', async () => {
    expect(await pausesOf(0, { attemptMs: 25_000 })).toHaveLength(2)
  })

  it('O04 are counted anew after an attempt that got further, while the time goes on', async () => {
    expect(await pausesOf(0, { gains: 3 })).toHaveLength(6)
    expect(await pausesOf(0, { gains: 1_000, attemptMs: 1_000 })).toHaveLength(50)
  })

  it('O03 of all operations are paid from one purse, which successes fill slowly', async () => {
    const purse = new RetryPurse()
    let repetitions = 0
    for (let operation = 0; operation < 100; operation++) repetitions += (await pausesOf(0, { purse })).length
    expect(repetitions).toBe(50)
    for (let success = 0; success < 9; success++) purse.refill()
    expect(await pausesOf(0, { purse })).toHaveLength(1)
    for (let success = 0; success < 1_000; success++) purse.refill()
    expect(await pausesOf(0, { purse })).toHaveLength(4)
  })

  it('are called off when nobody waits any more', async () => {
    const clock = new ManualClock()
    const retries = new Retries(policy, { clock, timers: clock, random: () => 0.9 }, new RetryPurse())
    const leaving = new AbortController()
    const again = retries.again(leaving.signal)
    expect(clock.pending).toBe(1)
    leaving.abort()
    expect([await again, clock.pending]).toEqual([false, 0])
    expect(await retries.again(leaving.signal)).toBe(false)
  })
})
