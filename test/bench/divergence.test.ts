import { describe, expect, test } from 'vitest'
import { Divergence } from '../../bench/quality/divergence.ts'

const logs = (...shares: number[]) => Float32Array.from(shares, Math.log)

describe('the divergence of one model from another', () => {
  test('is nothing between equals', () => {
    const divergence = new Divergence()
    divergence.add(logs(0.5, 0.3, 0.2), logs(0.5, 0.3, 0.2), 1)
    const { perplexity, meanKl, p99Kl, top1, negativeLogLikelihood } = divergence.summary()
    expect([perplexity, meanKl, p99Kl, top1]).toEqual([1, 0, 0, 1])
    expect(negativeLogLikelihood).toBeCloseTo(-Math.log(0.3), 6)
  })

  test('is measured over all tokens, perplexity by the next ones, and the first by which is most likely', () => {
    const divergence = new Divergence()
    divergence.add(logs(0.75, 0.25), logs(0.25, 0.75), 0)
    divergence.add(logs(0.5, 0.5), logs(0.5, 0.5), 1)
    const { perplexity, meanKl, p99Kl, top1 } = divergence.summary()
    const kl = 0.75 * Math.log(3) - 0.25 * Math.log(3)
    expect(meanKl).toBeCloseTo(kl / 2, 6)
    expect(p99Kl).toBeCloseTo(0.99 * kl, 6)
    expect(top1).toBe(0.5)
    expect(perplexity).toBeCloseTo(Math.sqrt(3), 6)
  })
})
