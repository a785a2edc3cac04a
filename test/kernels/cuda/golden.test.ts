/**
 * Golden cases through the real graph with the CUDA kernels: ONNX Runtime on this CPU calls quiver::Lora, whose kernels are
 * the CUDA sources on the execution shim (kernels/emulated). Prompts take the prefill kernels, what follows the decode kernels.
 */
import { beforeAll, describe, expect, test } from 'vitest'
import { klDivergence } from '../../support/distribution.ts'
import { emulatedOperator } from '../../support/emulated-operator.ts'
import { type GoldenCase, goldenCases, sureTokens } from '../../support/golden.ts'
import { answerGreedily, type GoldenAnswer, type GoldenTurn, openGoldenEngine } from '../../support/golden-engine.ts'
import { NEEDS_COMPILER, operatorUnderTest } from '../../support/operator-under-test.ts'

const adapters = ['sentiment', 'shout', 'support-json', 'text-to-sql']
/** Of the longest answers only the beginning: the shim takes its time. */
const MOST_TOKENS = 8
/** In nats, for any choice; the largest seen was 0.00015. 8-bit weights alone are 0.005 from float32 in the mean. */
const MOST_DIVERGENCE = 0.001

const turnOf = (golden: GoldenCase, adapter: string | null): GoldenTurn => ({
  golden,
  slot: adapter === null ? undefined : adapters.indexOf(adapter),
  tokens: Math.min(MOST_TOKENS, golden.token_ids.length),
})

/** The case of an adapter, or of the base model, that has the shortest prompt. */
function shortest(adapter: string | null): GoldenCase {
  const [first] = goldenCases
    .filter((golden) => golden.adapter === adapter)
    .toSorted((one, other) => one.prompt_ids.length - other.prompt_ids.length)
  if (first === undefined) throw new Error(`no golden case of ${adapter}`)
  return first
}

describe('the golden cases by the CUDA kernels on the shim', () => {
  const turns = [null, ...adapters].map((adapter) => turnOf(shortest(adapter), adapter))
  /** An adapter's prompt without the adapter: what would be answered if the operator did nothing. */
  const without = turnOf(shortest('text-to-sql'), null)
  let answers: GoldenAnswer[]
  let onHost: GoldenAnswer[]
  let calls: number
  let copies: number
  beforeAll(async () => {
    const host = await operatorUnderTest()
    if (host === undefined) throw new Error(NEEDS_COMPILER)
    const emulated = await emulatedOperator()
    const answeredBy = async (operator: typeof host) => {
      const engine = await openGoldenEngine(operator, adapters)
      try {
        expect(engine.description.lora).toBe(operator.name)
        return await answerGreedily(engine, [...turns, without])
      } finally {
        await engine.close()
      }
    }
    answers = await answeredBy(emulated.library)
    calls = emulated.runCalls()
    copies = emulated.copiedCalls()
    onHost = await answeredBy(host)
  }, 300_000)

  test('are computed by them at every step, layer and group of modules, in place', () => {
    const steps = Math.max(...turns.map(({ tokens }) => tokens))
    // q with k and v, o, gate with up, down; a step of prompts may take more than one run of the graph.
    expect(calls % (30 * 4)).toBe(0)
    expect(calls).toBeGreaterThanOrEqual(steps * 30 * 4)
    expect(copies).toBe(0)
  })

  test.each(turns.map(({ golden, tokens }, at) => ({ adapter: golden.adapter ?? 'the base model', golden, tokens, at })))(
    'have the tokens of $adapter, up to the first close choice',
    ({ golden, tokens, at }) => {
      const sure = Math.min(tokens, sureTokens(golden))
      expect(sure).toBeGreaterThan(1)
      expect(answers[at]?.tokens.slice(0, sure)).toEqual(golden.token_ids.slice(0, sure))
    },
  )

  test('would be answered otherwise without the adapter', () => {
    expect(answers.at(-1)?.tokens).not.toEqual(without.golden.token_ids.slice(0, without.tokens))
  })

  test('are chosen from the distributions that the host operator gives, but for the rounding to 16 bits', () => {
    for (const [at, { golden }] of turns.entries()) {
      const [own, host] = [answers[at], onHost[at]]
      const divergences = host?.logprobs.map((logprobs, i) => klDivergence(logprobs, own?.logprobs[i] ?? [])) ?? []
      expect(Math.max(...divergences), golden.prompt).toBeLessThan(MOST_DIVERGENCE)
    }
  })

  test('leave rows of the base model as they are, to the bit', () => {
    for (const at of [0, turns.length]) expect(answers[at]?.logprobs).toEqual(onHost[at]?.logprobs)
  })
})
