import type { SamplingParameters } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { Candidates } from '../../../packages/worker/src/sampling/candidates.ts'
import { createSampler } from '../../../packages/worker/src/sampling/sampler.ts'
import { rowOf } from './rows.ts'

const candidates = new Candidates(64)

function sampler(parameters: SamplingParameters, promptIds: number[] = [], drawn = 7n) {
  return createSampler(parameters, promptIds, { drawSeed: () => drawn, candidates })
}

/** A different row for every step. */
function rowAt(step: number) {
  return rowOf(Array.from({ length: 64 }, (_, id) => Math.sin(id * 12.9898 + step * 78.233) * 3))
}

function generate(parameters: SamplingParameters, steps: number): number[] {
  const one = sampler(parameters)
  return Array.from({ length: steps }, (_, step) => {
    const { id } = one.choose(rowAt(step))
    one.accept(id)
    return id
  })
}

describe('a greedy sampler', () => {
  it('takes the most likely token without looking at the rest', () => {
    const greedy = sampler({ sample: false, temperature: 0.1, topK: 3, topP: 0.5 })
    const row = { row: 0, topIds: [5, 1], topLogprobs: [-0.25, -2], logprobs: new Float32Array(0) }
    expect(greedy.choose(row)).toEqual({ id: 5, logprob: -0.25 })
    expect(greedy.seed).toBeUndefined()
  })

  it('looks further when a penalty puts the best back, and still tells what the model gave', () => {
    const greedy = sampler({ sample: false, presencePenalty: 1 })
    const row = rowOf([2, 1.5, 0])
    expect(greedy.choose(row).id).toBe(0)
    greedy.accept(0)
    const { id, logprob } = greedy.choose(row)
    expect(id).toBe(1)
    expect(logprob).toBe(row.logprobs[1])
    expect(greedy.seed).toBeUndefined()
  })

  it('applies the repetition penalty to logits, or to log-probabilities where there are no logits', () => {
    const parameters = { sample: false, repetitionPenalty: 1.3 }
    // As a logit 2 / 1.3 stays above 1.2; as log-probabilities -0.42 · 1.3 stays above -1.22, and -0.04 · 1.3 too.
    expect(sampler(parameters, [0]).choose(rowOf([2, 1.2, 0])).id).toBe(0)
    expect(sampler({ ...parameters, repetitionPenalty: 2 }, [0]).choose(rowOf([2, 1.2, 0])).id).toBe(1)
    expect(sampler({ ...parameters, repetitionPenalty: 2 }, [0]).choose(rowOf([2, 1.2, 0], { withLogSumExp: false })).id).toBe(0)
  })

  it('takes the lower id among equals when penalties are on', () => {
    expect(sampler({ sample: false, presencePenalty: 1 }).choose(rowOf([0, 1, 1])).id).toBe(1)
  })
})

// Each once ended its own request with an error that blamed the adapter.
describe('parameters beyond all measure', () => {
  const logits = [9, 5, 4, -3]

  it.each([1e-40, 5e-324, 1e308])('a repetition penalty of %d leaves a token to choose', (repetitionPenalty) => {
    for (const sample of [true, false]) {
      const { id, logprob } = sampler({ sample, repetitionPenalty }, [0, 1, 2, 3]).choose(rowOf(logits))
      expect([id, Number.isFinite(logprob)]).toEqual([expect.any(Number), true])
    }
  })

  it('a temperature of 1e308 never draws what is struck out', () => {
    const row = rowOf(logits)
    row.logprobs.fill(Number.NEGATIVE_INFINITY, 2)
    const one = sampler({ sample: true, temperature: 1e308 })
    for (let step = 0; step < 50; step++) {
      const { id } = one.choose(row)
      one.accept(id)
      expect(id).toBeLessThan(2)
    }
  })
})

describe('a drawing sampler', () => {
  it.each<SamplingParameters>([
    { sample: true },
    { sample: true, temperature: 0.7, topP: 0.9 },
    { sample: true, topK: 5, repetitionPenalty: 1.2 },
    { sample: true, typicalP: 0.5, frequencyPenalty: 0.3 },
  ])('draws the same tokens again from the same seed: %j', (parameters) => {
    const tokens = generate({ ...parameters, seed: '18446744073709551615' }, 40)
    expect(generate({ ...parameters, seed: '18446744073709551615' }, 40)).toEqual(tokens)
    expect(generate({ ...parameters, seed: '18446744073709551614' }, 40)).not.toEqual(tokens)
  })

  it('is not moved by what else draws from the same work space', () => {
    const alone = generate({ sample: true, temperature: 1.5, seed: '3' }, 20)
    const one = sampler({ sample: true, temperature: 1.5, seed: '3' })
    const neighbour = sampler({ sample: true, topK: 4, presencePenalty: 1, seed: '9' })
    const crowded = alone.map((_, step) => {
      neighbour.accept(neighbour.choose(rowAt(step * 31 + 1)).id)
      const { id } = one.choose(rowAt(step))
      one.accept(id)
      return id
    })
    expect(crowded).toEqual(alone)
  })

  it('answers the same when asked again before it goes on', () => {
    const one = sampler({ sample: true, temperature: 2, seed: '11' })
    const first = one.choose(rowAt(0))
    expect(one.choose(rowAt(0))).toEqual(first)
  })

  it('tells the seed that it drew, below 2^53, and it replays', () => {
    const drawn = sampler({ sample: true }, [], 2n ** 64n - 5n)
    const seed = drawn.seed ?? ''
    expect(BigInt(seed)).toBeLessThan(2n ** 53n)
    const again = sampler({ sample: true, seed })
    for (let step = 0; step < 20; step++) {
      const { id } = drawn.choose(rowAt(step))
      expect(again.choose(rowAt(step)).id).toBe(id)
      drawn.accept(id)
      again.accept(id)
    }
  })

  it('keeps all digits of a given seed, and refuses more than 64 bits', () => {
    expect(sampler({ sample: true, seed: '9007199254740993' }).seed).toBe('9007199254740993')
    expect(() => sampler({ sample: true, seed: '18446744073709551616' })).toThrow(
      '`seed` must be at most 18446744073709551615. Given: 18446744073709551616',
    )
  })

  it('reports the log-probability of the model, not of what was left to draw from', () => {
    const row = rowAt(0)
    const { id, logprob } = sampler({ sample: true, topK: 1, temperature: 0.3, seed: '1' }).choose(row)
    expect(id).toBe(row.topIds[0])
    expect(logprob).toBe(row.logprobs[id])
  })

  it('draws each token as often as its probability says', () => {
    const weights = [1, 2, 4, 8, 16, 3, 0.5, 5.5]
    const row = rowOf(weights.map((weight) => Math.log(weight)))
    const one = sampler({ sample: true, seed: '20241122' })
    const draws = 20_000
    const times = weights.map(() => 0)
    for (let draw = 0; draw < draws; draw++) {
      const { id } = one.choose(row)
      times[id] = (times[id] ?? 0) + 1
      one.accept(id)
    }
    const chiSquare = weights.reduce((sum, weight, id) => {
      const expected = (draws * weight) / 40
      return sum + ((times[id] ?? 0) - expected) ** 2 / expected
    }, 0)
    // Seven degrees of freedom: one seed in a thousand is above 24.3, and this one is fixed.
    expect(chiSquare).toBeLessThan(24.3)
  })

  it('refuses a row without a finite value', () => {
    const broken = { row: 0, topIds: [0], topLogprobs: [Number.NaN], logprobs: new Float32Array(4).fill(Number.NaN) }
    expect(() => sampler({ sample: true }).choose(broken)).toThrow('no finite probabilities')
    expect(() => sampler({ sample: false, presencePenalty: 1 }).choose(broken)).toThrow('no finite probabilities')
  })
})
