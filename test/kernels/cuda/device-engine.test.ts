/**
 * The engine as it computes on a GPU, as far as a processor can: the float16 graph, keys, values and adapter pools in a device's
 * memory, the operator of the CUDA library with its plan and scratch, adapters sent by a side stream. The device is the execution
 * shim; the graph's standard operators are those of ONNX Runtime's CPU provider. What only a GPU can show is listed in docs/adr/0028.
 */
import type { SequenceId, SlotIndex } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Engine } from '../../../packages/worker/src/engine/engine.ts'
import { EngineBroken } from '../../../packages/worker/src/engine/engine-broken.ts'
import { klDivergence } from '../../support/distribution.ts'
import { stepLogprobs, stepRows } from '../../support/engine-under-test.ts'
import { goldenCases, sureTokens } from '../../support/golden.ts'
import { answerGreedily, type GoldenTurn, openGoldenEngine } from '../../support/golden-engine.ts'
import { type ShimDevice, shimDevice } from '../../support/shim-device.ts'

const adapters = ['sentiment', 'shout', 'support-json', 'text-to-sql']
const MOST_TOKENS = 5

function shortest(adapter: string | null): GoldenTurn {
  const own = goldenCases.filter((golden) => golden.adapter === adapter)
  const golden = own.toSorted((one, other) => one.prompt_ids.length - other.prompt_ids.length)[0]
  if (golden === undefined) throw new Error(`no golden case of ${adapter}`)
  const slot = adapter === null ? undefined : adapters.indexOf(adapter)
  return { golden, slot, tokens: Math.min(MOST_TOKENS, golden.token_ids.length) }
}

let shim: ShimDevice
let engine: Engine
beforeAll(async () => {
  shim = await shimDevice()
  engine = await openGoldenEngine(shim.operator, adapters, { dtype: 'fp16', backend: shim.backend })
}, 400_000)
afterAll(async () => {
  shim.fail('', 0)
  await engine?.close()
})

describe('an engine on a device', () => {
  const turns = [null, ...adapters].map(shortest)

  test('says what it is, and keeps its keys and values for itself', () => {
    expect(engine.description).toEqual({ kind: 'onnx', device: 'cuda-on-shim', lora: 'cuda-on-shim' })
    expect(engine.prefix).toBeUndefined()
  })

  test('answers golden cases of the base and of four adapters together, up to the first close choice', async () => {
    const answers = await answerGreedily(engine, turns)
    for (const [at, { golden, tokens }] of turns.entries()) {
      const sure = Math.min(tokens, sureTokens(golden))
      expect(answers[at]?.tokens.slice(0, sure), golden.prompt).toEqual(golden.token_ids.slice(0, sure))
      engine.release(at as SequenceId)
    }
  }, 200_000)
})
