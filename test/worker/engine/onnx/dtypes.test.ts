import { describe, expect, test } from 'vitest'
import { klDivergence, logSoftmax } from '../../../support/distribution.ts'
import { openTestEngine, stepLogprobs, stepRows } from '../../../support/engine-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

/** Mean KL divergence from the plain model, in nats; random weights are harder to round than trained ones (a wrong layout gives more than 2). */
describe.each([
  ['int8', 0.02],
  ['int4', 0.8],
] as const)('%s', (dtype, bound) => {
  test.each(['llama-fp32-tied', 'qwen2-bf16', 'gguf-llama-q4_k'])('stays near the exact answer on %s', async (name) => {
    const model = tinyModel(name)
    const { engine, reference, close } = await openTestEngine(model, dtype)
    try {
      const computed = await stepLogprobs(engine, stepRows({ id: 1, tokens: model.promptIds }))
      const logits = reference.logits(model.promptIds)
      const divergences = computed.map((row, position) =>
        klDivergence(logSoftmax(logits.subarray(position * model.vocabSize, (position + 1) * model.vocabSize)), row),
      )
      const mean = divergences.reduce((sum, value) => sum + value, 0) / divergences.length
      expect(mean).toBeGreaterThan(0)
      expect(mean).toBeLessThan(bound)
    } finally {
      await close()
    }
  })
})
