import type { SamplingParameters } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { Candidates } from '../../../packages/worker/src/sampling/candidates.ts'
import { createSampler } from '../../../packages/worker/src/sampling/sampler.ts'
import { createWatermark, detectWatermark, Greenlist } from '../../../packages/worker/src/sampling/watermark.ts'
import { randomFrom } from '../../support/random-seed.ts'
import { rowOf } from './rows.ts'

const VOCABULARY = 2_000
const PROMPT = [7, 1_999]
const candidates = new Candidates(VOCABULARY)
// Always the same rows: one text in forty without a mark has more green tokens than the bound below allows.
const random = randomFrom(1)

/** What a sampler makes of a model that has some choice at every step. */
function generate(parameters: SamplingParameters, steps = 300): number[] {
  const sampler = createSampler(parameters, PROMPT, { drawSeed: () => 1n, candidates })
  return Array.from({ length: steps }, () => {
    const { id } = sampler.choose(rowOf(Array.from({ length: VOCABULARY }, () => random() * 6)))
    sampler.accept(id)
    return id
  })
}
const zOf = (ids: readonly number[]) => detectWatermark([...PROMPT.slice(-1), ...ids], VOCABULARY).z

describe('a text with a watermark', () => {
  it.each<SamplingParameters>([
    { sample: true, seed: '3' },
    { sample: true, seed: '4', temperature: 0.7, topK: 200, repetitionPenalty: 1.2 },
    { sample: false },
    { sample: false, presencePenalty: 0.5 },
  ])('is told from one without: %j', (parameters) => {
    expect(zOf(generate({ ...parameters, watermark: true }))).toBeGreaterThan(4)
    expect(Math.abs(zOf(generate(parameters)))).toBeLessThan(2)
  })

  it('is found by the very numbers, in any process', () => {
    const greens = new Greenlist(49_152)
    const firstAfter = (id: number) => Array.from(greens.after(id).subarray(0, 24)).join('')
    expect([0, 1, 49_151].map(firstAfter)).toEqual([
      '110000011101001100001001',
      '111011111111010001110110',
      '010110101011011010001000',
    ])
  })

  it('has its mark from the one before and not from what came earlier', () => {
    const long = createWatermark([5, 6, 9], 100)
    const short = createWatermark([9], 100)
    const [left, right] = [new Float32Array(100), new Float32Array(100)]
    long.apply(left)
    short.apply(right)
    expect(left).toEqual(right)
    expect([...new Set(left)].sort()).toEqual([0, 2])
    short.accept(10)
    right.fill(0)
    short.apply(right)
    expect(left).not.toEqual(right)
  })

  it('never makes a token possible that may not come', () => {
    const row = rowOf([1, 1, 1, 1])
    row.logprobs.fill(Number.NEGATIVE_INFINITY, 1)
    const sampler = createSampler({ sample: true, seed: '1', watermark: true }, [3], { drawSeed: () => 1n, candidates })
    expect(Array.from({ length: 20 }, () => sampler.choose(row).id)).toEqual(Array(20).fill(0))
  })
})

describe('the green half', () => {
  it('is exactly a half, another after every token', () => {
    const greens = new Greenlist(1_001)
    const lists = [1, 2, 3].map((id) => [...greens.after(id)])
    expect(lists.map((list) => list.filter((green) => green === 1).length)).toEqual([500, 500, 500])
    const both = lists[0]?.filter((green, id) => green === 1 && lists[1]?.[id] === 1).length ?? 0
    expect(both).toBeGreaterThan(180)
    expect(both).toBeLessThan(320)
  })
})

describe('looking for a watermark', () => {
  it('counts a pair that comes again once, so that repetition proves nothing', () => {
    const repeated = Array.from({ length: 100 }, (_, at) => at % 2)
    expect(detectWatermark(repeated, VOCABULARY).pairs).toBe(2)
    expect(Math.abs(detectWatermark(repeated, VOCABULARY).z)).toBeLessThan(2)
  })

  it('finds nothing in nothing', () => {
    expect(detectWatermark([], VOCABULARY)).toEqual({ pairs: 0, greens: 0, z: 0 })
    expect(detectWatermark([5], VOCABULARY)).toEqual({ pairs: 0, greens: 0, z: 0 })
  })
})
