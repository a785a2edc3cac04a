import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { NegativeCache } from '../../packages/cache/src/negative-cache.ts'
import { ManualClock } from '../support/manual-clock.ts'

const cause = new ServingError('adapter_invalid', 'broken')

describe('the negative cache', () => {
  it('O01 holds a failure for seconds, doubling up to thirty', () => {
    const clock = new ManualClock()
    const cache = new NegativeCache<string>(clock)
    const waits: number[] = []
    for (let i = 0; i < 7; i++) {
      cache.failed('k', cause)
      const untilMs = cache.get('k')?.untilMs ?? 0
      waits.push(untilMs - clock.nowMs())
      clock.advance(untilMs - clock.nowMs() - 1)
      expect(cache.get('k')?.cause).toBe(cause)
      clock.advance(1)
      expect(cache.get('k')).toBeUndefined()
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  })

  it('begins again after success, and after a quiet minute', () => {
    const clock = new ManualClock()
    const cache = new NegativeCache<string>(clock)
    const backoff = (): number => {
      cache.failed('k', cause)
      return (cache.get('k')?.untilMs ?? 0) - clock.nowMs()
    }
    expect([backoff(), backoff()]).toEqual([1_000, 2_000])
    cache.succeeded('k')
    expect([cache.get('k'), backoff()]).toEqual([undefined, 1_000])
    clock.advance(1_000 + 60_000)
    expect(backoff()).toBe(1_000)
  })

  it('forgets the oldest failures beyond its bound', () => {
    const cache = new NegativeCache<string>(new ManualClock())
    for (let i = 0; i <= 10_000; i++) cache.failed(`k${i}`, cause)
    expect([cache.get('k0'), cache.get('k10000')?.cause]).toEqual([undefined, cause])
  })
})
