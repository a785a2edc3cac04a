/**
 * The engine as it computes on a GPU, as far as a processor can: the float16 graph, keys, values and adapter pools in a device's
 * memory, the operator of the CUDA library with its plan and scratch, adapters sent by a side stream. The device is the execution
 * shim; the graph's standard operators are those of ONNX Runtime's CPU provider. What only a GPU can show is listed in docs/adr/0028.
 */
import type { SequenceId, SlotIndex } from '@quiver/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Engine } from '../../../packages/worker/src/engine/engine.ts'
import { EngineBroken } from '../../../packages/worker/src/engine/engine-broken.ts'
import { checkedAdapters, shortestTurn, wrongAnswers } from '../../support/device-checks.ts'
import { klDivergence } from '../../support/distribution.ts'
import { stepLogprobs, stepRows } from '../../support/engine-under-test.ts'
import { loadExample, openGoldenEngine } from '../../support/golden-engine.ts'
import { type ShimDevice, shimDevice } from '../../support/shim-device.ts'

const MOST_TOKENS = 5

let shim: ShimDevice
let engine: Engine
beforeAll(async () => {
  shim = await shimDevice()
  engine = await openGoldenEngine(shim.operator, checkedAdapters, { dtype: 'fp16', backend: shim.backend })
}, 400_000)
afterAll(async () => {
  shim.fail('', 0)
  await engine?.close()
})

describe('an engine on a device', () => {
  test('says what it is, and keeps its keys and values for itself', () => {
    expect(engine.description).toEqual({ kind: 'onnx', device: 'cuda-on-shim', lora: 'cuda-on-shim' })
    expect(engine.prefix).toBeUndefined()
  })

  test('answers golden cases of the base and of four adapters together, up to the first close choice', async () => {
    expect(await wrongAnswers(engine, MOST_TOKENS)).toEqual([])
  }, 200_000)

  test('computes on as before after rows were moved in the device, and after an adapter came into a used slot', async () => {
    const prompt = shortestTurn('text-to-sql', MOST_TOKENS).golden.prompt_ids.slice(0, 12)
    const alone = await stepLogprobs(engine, stepRows({ id: 20, tokens: [...prompt, 5, 6], slot: 3 }))
    engine.release(20 as SequenceId)
    // Three sequences; the first ends, so that the last is moved into its row.
    for (const id of [21, 22, 23]) await stepLogprobs(engine, stepRows({ id, tokens: prompt, slot: 3 }))
    engine.release(21 as SequenceId)
    await stepLogprobs(engine, [
      ...stepRows({ id: 22, tokens: [5], slot: 3 }, prompt.length),
      ...stepRows({ id: 23, tokens: [5], slot: 3 }, prompt.length),
    ])
    await loadExample(engine, 0 as SlotIndex, 'shout', 'fp16')
    const [, last] = await stepLogprobs(engine, [
      ...stepRows({ id: 22, tokens: [6], slot: 0 }, prompt.length + 1),
      ...stepRows({ id: 23, tokens: [6], slot: 3 }, prompt.length + 1),
    ])
    expect(klDivergence(alone.at(-1) ?? [], last ?? [])).toBeLessThan(0.001)
    for (const id of [22, 23]) engine.release(id as SequenceId)
  }, 200_000)

  test('W05 W08 a launch that finds no memory fails that step alone', async () => {
    shim.fail('launch', 2)
    const step = () => stepLogprobs(engine, stepRows({ id: 30, tokens: [1, 2, 3], slot: 1 }))
    await expect(step()).rejects.toMatchObject({ code: 'overloaded' })
    engine.release(30 as SequenceId)
    expect(await step()).toHaveLength(3)
    engine.release(30 as SequenceId)
  }, 100_000)

  test('W06 a context that is lost in a step breaks the engine, and it says so from then on', async () => {
    shim.fail('launch', 700)
    const step = () => stepLogprobs(engine, stepRows({ id: 31, tokens: [1, 2, 3], slot: 1 }))
    await expect(step()).rejects.toThrow(EngineBroken)
    await expect(step()).rejects.toThrow(EngineBroken)
    await expect(loadExample(engine, 1 as SlotIndex, 'shout', 'fp16')).rejects.toThrow(EngineBroken)
  }, 100_000)
})

test('W05 an engine for which the device has no memory is refused, with nothing left open', async () => {
  shim.fail('', 0)
  shim.fail('cudaMalloc', 2)
  const opening = openGoldenEngine(shim.operator, checkedAdapters, { dtype: 'fp16', backend: shim.backend })
  await expect(opening).rejects.toMatchObject({ code: 'overloaded' })
  await expect(opening).rejects.toThrow(/^slots of adapters: the GPU's memory is full: .+ start with a smaller --sequences/)
}, 100_000)
