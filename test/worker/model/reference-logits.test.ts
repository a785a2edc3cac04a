import { describe, expect, it } from 'vitest'
import { ReferenceModel } from '../../support/reference-model.ts'
import { tinyModels } from '../../support/tiny-models.ts'

describe('readers and spec, through a plain forward pass', () => {
  it.each(tinyModels.map((model) => [model.name, model] as const))(
    '%s gives the logits of transformers',
    async (_name, model) => {
      const { spec, weights } = await model.open()
      const reference = await ReferenceModel.load(spec, weights)
      await weights.close()
      const logits = reference.logits(model.promptIds)
      const expected = model.logits()
      expect(logits.length).toBe(expected.length)
      expect(largestDifference(logits, expected)).toBeLessThan(1e-3)
      expect(spec.family).toBe(model.family)
    },
  )
})

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? Number.NaN))), 0)
}
