import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EvictionQueue } from '../../../packages/cache/src/policy/eviction-queue.ts'
import { randomSeed } from '../../support/random-seed.ts'

describe('the eviction queue', () => {
  it('gives the least first, and of equals the one that was put first', () => {
    const scores = new Map([...'abcde'].map((key, index) => [key, [3, 1, 2, 1, Number.NEGATIVE_INFINITY][index] ?? 0]))
    const queue = new EvictionQueue<string>((key) => scores.get(key) ?? 0)
    for (const key of scores.keys()) queue.put(key)
    queue.put('b')
    expect(Array.from({ length: 6 }, () => queue.takeLeast())).toEqual(['e', 'd', 'b', 'c', 'a', undefined])
  })

  it('looks again at what comes up: a key that was used since gets another place', () => {
    const scores = new Map([
      ['old', 1],
      ['new', 2],
    ])
    const queue = new EvictionQueue<string>((key) => scores.get(key) ?? 0)
    for (const key of scores.keys()) queue.put(key)
    scores.set('old', 3)
    expect(queue.takeLeast()).toBe('new')
  })

  it('passes over what may not go, and keeps it', () => {
    const queue = new EvictionQueue<number>((key) => key)
    for (const key of [1, 2, 3]) queue.put(key)
    expect(queue.takeLeast((key) => key > 1)).toBe(2)
    expect(queue.takeLeast((key) => key > 5)).toBeUndefined()
    expect([queue.has(1), queue.has(2), queue.size]).toEqual([true, false, 2])
  })

  it('agrees with sorting, after any mix of puts, deletions and takings', () => {
    const command = fc.tuple(fc.constantFrom('put', 'put', 'delete', 'take'), fc.nat(12), fc.integer({ min: -3, max: 3 }))
    const seed = randomSeed('eviction queue')
    fc.assert(
      fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
        const scores = new Map<number, number>()
        const queue = new EvictionQueue<number>((key) => scores.get(key) ?? 0)
        let model: { readonly key: number; readonly score: number }[] = []
        for (const [kind, key, score] of commands) {
          if (kind === 'take') {
            const least = model.toSorted((a, b) => a.score - b.score)[0]
            expect(queue.takeLeast()).toBe(least?.key)
            model = model.filter((entry) => entry !== least)
            continue
          }
          model = model.filter((entry) => entry.key !== key)
          if (kind === 'delete') queue.delete(key)
          else {
            scores.set(key, score)
            model.push({ key, score })
            queue.put(key)
          }
          expect(queue.size).toBe(model.length)
        }
      }),
      { seed },
    )
    expect(seed).toBeDefined()
  })
})
