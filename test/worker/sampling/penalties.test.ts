import { describe, expect, it } from 'vitest'
import { createPenalties } from '../../../packages/worker/src/sampling/penalties.ts'

function apply(
  parameters: Parameters<typeof createPenalties>[0],
  logits: number[],
  prompt: number[],
  answer: number[],
  shift = 0,
) {
  const penalties = createPenalties(parameters, prompt)
  for (const id of answer) penalties.accept(id)
  const scores = Float32Array.from(logits, (logit) => logit - shift)
  penalties.apply(scores, shift)
  return Array.from(scores, (score) => Math.round((score + shift) * 1000) / 1000)
}

describe('penalties', () => {
  it('divides positive and multiplies negative logits of tokens in prompt and answer by the repetition penalty, once', () => {
    const logits = [4, -4, 3, 0, 1]
    expect(apply({ sample: false, repetitionPenalty: 2 }, logits, [0, 0, 1], [2, 2])).toEqual([2, -8, 1.5, 0, 1])
  })

  it('finds the logits again from log-probabilities', () => {
    expect(apply({ sample: false, repetitionPenalty: 2 }, [4, -4, 1], [0, 1], [], 5)).toEqual([2, -8, 1])
  })

  it('adds the bias of named tokens, whatever occurred', () => {
    expect(apply({ sample: false, logitBias: { '0': -100, '2': 1.5, '9': 1 } }, [1, 1, 1], [0], [2])).toEqual([-99, 1, 2.5])
    expect(createPenalties({ sample: false, logitBias: {} }, []).active).toBe(false)
  })

  it('takes the frequency penalty off for every time in the answer, the presence penalty once', () => {
    const parameters = { sample: false, frequencyPenalty: 0.5, presencePenalty: 0.25 }
    expect(apply(parameters, [1, 1, 1], [0, 0], [1, 1, 1, 2])).toEqual([1, -0.75, 0.25])
  })

  it('makes tokens likelier where negative', () => {
    expect(apply({ sample: false, frequencyPenalty: -1 }, [0, 0], [], [1, 1])).toEqual([0, 2])
    expect(apply({ sample: false, repetitionPenalty: 0.5 }, [2, 2], [1], [])).toEqual([2, 4])
  })

  it('repeats first, then counts', () => {
    const parameters = { sample: false, repetitionPenalty: 2, presencePenalty: 1 }
    expect(apply(parameters, [4], [], [0])).toEqual([1])
  })

  it('leaves what cannot be at that', () => {
    const penalties = createPenalties({ sample: false, repetitionPenalty: 2, presencePenalty: 1 }, [0, 99])
    penalties.accept(0)
    const scores = Float32Array.of(Number.NEGATIVE_INFINITY, 0)
    penalties.apply(scores, 3)
    expect(Array.from(scores)).toEqual([Number.NEGATIVE_INFINITY, 0])
  })

  it('says when there is nothing to do', () => {
    expect(createPenalties({ sample: true, repetitionPenalty: 1, frequencyPenalty: 0 }, [1]).active).toBe(false)
    expect(createPenalties({ sample: true, presencePenalty: 0.1 }, []).active).toBe(true)
  })
})
