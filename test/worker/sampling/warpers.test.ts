import type { SamplingParameters } from '@quiver/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Candidates } from '../../../packages/worker/src/sampling/candidates.ts'
import { narrow } from '../../../packages/worker/src/sampling/warpers.ts'
import { randomSeed } from '../../support/random-seed.ts'
import { rowOf } from './rows.ts'

const seed = randomSeed('warpers')

type Warping = Omit<SamplingParameters, 'sample'>

function narrowed(logits: readonly number[], parameters: Warping) {
  const candidates = new Candidates(logits.length)
  const { logprobs, topLogprobs } = rowOf(logits)
  narrow(candidates, { values: logprobs, best: topLogprobs[0] ?? 0 }, { sample: true, ...parameters })
  return candidates
}

function keptIds(logits: readonly number[], parameters: Warping): number[] {
  const candidates = narrowed(logits, parameters)
  return Array.from(candidates.ids.subarray(0, candidates.count))
}

/** The same by sorting everything, in the plainest way. */
function reference(logits: readonly number[], { temperature = 1, topK, topP, typicalP }: Warping): number[] {
  const { logprobs } = rowOf(logits)
  const best = Math.max(...logprobs)
  let kept = Array.from(logprobs, (logprob, id) => ({ id, logprob, weight: Math.exp((logprob - best) / temperature) }))
  const takeMass = (sorted: typeof kept, mass: number) => {
    let before = 0
    return sorted.filter(({ weight }) => {
      const taken = before < mass
      before += weight
      return taken
    })
  }
  const total = () => kept.reduce((sum, { weight }) => sum + weight, 0)
  const byScore = () => kept.toSorted((a, b) => b.logprob - a.logprob || a.id - b.id)
  if (topK !== undefined) kept = byScore().slice(0, topK)
  if (topP !== undefined && topP < 1) kept = takeMass(byScore(), topP * total())
  if (typicalP !== undefined) {
    const sum = total()
    const surprise = (weight: number) => -Math.log(weight / sum)
    const entropy = kept.reduce((so, { weight }) => so + (weight / sum) * surprise(weight), 0)
    const distance = (weight: number) => Math.fround(Math.abs(surprise(weight) - entropy))
    kept = takeMass(
      kept.toSorted((a, b) => distance(a.weight) - distance(b.weight) || a.id - b.id),
      typicalP * sum,
    )
  }
  return kept.map(({ id }) => id).toSorted((a, b) => a - b)
}

describe('warpers', () => {
  const logits = [1, 5, 3, 4, 2].map((weight) => Math.log(weight))

  it.each<[Warping, number[]]>([
    [{}, [0, 1, 2, 3, 4]],
    [{ topK: 2 }, [1, 3]],
    [{ topK: 1 }, [1]],
    [{ topK: 99 }, [0, 1, 2, 3, 4]],
    // Of 15: 5, then 9, then 12.
    [{ topP: 0.33 }, [1]],
    [{ topP: 0.34 }, [1, 3]],
    [{ topP: 0.61 }, [1, 2, 3]],
    [{ topP: 1 }, [0, 1, 2, 3, 4]],
    [{ topP: 0.000_001 }, [1]],
    // Of what top_k left: 5 of 9 is 0.56.
    [{ topK: 2, topP: 0.5 }, [1]],
    // At temperature 0.5 the weights are squared: 25 of 55.
    [{ temperature: 0.5, topP: 0.45 }, [1]],
    [{ temperature: 0.5, topP: 0.46 }, [1, 3]],
    // The entropy is 1.49 nats, which 3 of 15 (1.61) and then 4 of 15 (1.32) come nearest to.
    [{ typicalP: 0.1 }, [2]],
    [{ typicalP: 0.3 }, [2, 3]],
  ])('with %j keeps %j', (parameters, ids) => {
    expect(keptIds(logits, parameters)).toEqual(ids)
    expect(reference(logits, parameters)).toEqual(ids)
  })

  it('prefers the lower id among equals', () => {
    expect(keptIds([0, 0, 0, 0], { topK: 2 })).toEqual([0, 1])
    expect(keptIds([0, 0, 0, 0], { topP: 0.5 })).toEqual([0, 1])
    expect(keptIds([-1, 0, -1, 0], { topK: 3 })).toEqual([0, 1, 3])
    expect(keptIds([0, 0, 0, 0], { typicalP: 0.5 })).toEqual([0, 1])
  })

  it('never offers what the model rules out', () => {
    expect(keptIds([0, Number.NEGATIVE_INFINITY, -1], { temperature: 100 })).toEqual([0, 2])
    expect(keptIds([0, Number.NEGATIVE_INFINITY, -1], { topK: 3 })).toEqual([0, 2])
  })

  it('weighs by the softmax at that temperature', () => {
    const { weights, total } = narrowed(logits, { temperature: 2 })
    const roots = [1, 5, 3, 4, 2].map(Math.sqrt)
    const sum = roots.reduce((so, root) => so + root, 0)
    for (const [id, root] of roots.entries()) expect((weights[id] ?? 0) / total).toBeCloseTo(root / sum, 6)
  })

  it(`keeps what sorting the whole vocabulary keeps (SEED=${seed})`, () => {
    // Whole numbers give ties, the others do not. None is so far behind that it counts as nothing.
    const logit = fc.oneof(fc.integer({ min: -6, max: 6 }), fc.double({ min: -14, max: 8, noNaN: true }))
    const parameters = fc.record(
      {
        temperature: fc.double({ min: 0.8, max: 3, noNaN: true }),
        topK: fc.integer({ min: 1, max: 60 }),
        topP: fc.double({ min: 0.01, max: 0.999, noNaN: true }),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(fc.array(logit, { minLength: 1, maxLength: 200 }), parameters, (row, warping) => {
        expect(keptIds(row, warping)).toEqual(reference(row, warping))
      }),
      { seed, numRuns: 500 },
    )
  })

  it(`keeps the typical mass that sorting keeps (SEED=${seed})`, () => {
    const logit = fc.double({ min: -8, max: 8, noNaN: true })
    const mass = fc.double({ min: 0.05, max: 0.95, noNaN: true })
    fc.assert(
      fc.property(fc.array(logit, { minLength: 1, maxLength: 100 }), mass, (row, typicalP) => {
        const kept = keptIds(row, { typicalP })
        const expected = reference(row, { typicalP })
        expect(narrowed(row, { typicalP }).total).toBeGreaterThanOrEqual(typicalP * narrowed(row, {}).total * (1 - 1e-6))
        // Two tokens as far from the entropy on either side may change places by a rounding.
        expect(Math.abs(kept.length - expected.length)).toBeLessThanOrEqual(1)
        expect(expected.filter((id) => !kept.includes(id)).length).toBeLessThanOrEqual(1)
      }),
      { seed, numRuns: 300 },
    )
  })

  it('leaves out what weighs nothing beside the best', () => {
    expect(keptIds([0, -29, -31], {})).toEqual([0, 1])
    expect(keptIds([0, -29, -31], { temperature: 2 })).toEqual([0, 1, 2])
  })
})
