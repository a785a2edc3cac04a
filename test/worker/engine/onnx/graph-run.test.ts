import { expect, test } from 'vitest'
import { GraphRun, type RunInput, type RunOutput } from '../../../../packages/worker/src/engine/onnx/graph-run.ts'
import { KvCache } from '../../../../packages/worker/src/engine/onnx/kv-cache.ts'
import type { Binding, OnnxRuntime, Tensor } from '../../../../packages/worker/src/engine/onnx/ort.ts'
import { StandardPools } from '../../../../packages/worker/src/engine/onnx/standard-pools.ts'
import { baseLayout } from '../../../../packages/worker/src/model/model-spec.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

/** ONNX Runtime without the arithmetic: counts tensors that live and notes what each name is bound to. */
class CountingRuntime implements OnnxRuntime {
  readonly version = 'none'
  readonly library = undefined
  readonly bound = new Map<string, Tensor>()
  readonly #live = new Set<bigint>()
  #handles = 0n
  failOn: string | undefined

  get liveTensors(): number {
    return this.#live.size
  }

  tensor: OnnxRuntime['tensor'] = (_type, _shape, data) => {
    this.#handles += 1n
    const handle = this.#handles
    this.#live.add(handle)
    const release = (): void => {
      if (!this.#live.delete(handle)) throw new Error('a tensor is released twice')
    }
    return { handle, memory: data.buffer, release }
  }

  createSession = () => Promise.resolve({ createBinding: () => this.createBinding(), close: () => {} })

  createBinding(): Binding {
    const bind = (name: string, tensor: Tensor): void => {
      if (name === this.failOn) throw new Error(`cannot bind ${name}`)
      this.bound.set(name, tensor)
    }
    return { bindInput: bind, bindOutput: bind, run: () => Promise.resolve(), close: () => {} }
  }

  close(): void {}
}

async function setUp() {
  const { spec, weights } = await tinyModel('llama-fp32-tied').open()
  await weights.close()
  const runtime = new CountingRuntime()
  const kv = new KvCache(spec, { sequences: 4, totalTokens: 16 })
  const run = new GraphRun({
    runtime,
    session: await runtime.createSession(),
    kv,
    kvShape: (batch) => [batch, spec.kvHeadCount, kv.capacity, spec.headDim],
    pools: new StandardPools(baseLayout(spec), { slots: 2, maxRank: 4, dtype: 'f32' }),
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
  })
  return { spec, runtime, run }
}

const output: RunOutput = {
  top: 1,
  logprobs: new Float32Array(1),
  firstLogits: new Float32Array(1),
  topLogprobs: new Float32Array(1),
  topIds: new BigInt64Array(1),
  hidden: new Float32Array(0),
}

function oneRow(firstRow: number): RunInput {
  return {
    tokens: Int32Array.of(1),
    slots: Int32Array.of(-1),
    batch: 1,
    length: 1,
    firstRow,
    lengths: Int32Array.of(1),
    wanted: Int32Array.of(0),
    pooled: new Int32Array(0),
  }
}

test('binds every layer of the cache anew after a run whose binding failed half-way', async () => {
  const { spec, runtime, run } = await setUp()
  await run.run(oneRow(0), output)
  const last = `value.${spec.layerCount - 1}`
  const before = runtime.bound.get(last)
  runtime.failOn = last
  await expect(run.run(oneRow(1), output)).rejects.toThrow(`cannot bind ${last}`)
  runtime.failOn = undefined
  await run.run(oneRow(1), output)
  expect(runtime.bound.get(last)).not.toBe(before)
  expect(runtime.bound.get(`new_${last}`)).toBe(runtime.bound.get(last))
})

test('holds as many tensors after many runs as after the first, also when some fail, and none after its end', async () => {
  const { runtime, run } = await setUp()
  await run.run(oneRow(0), output)
  const live = runtime.liveTensors
  for (const [round, failOn] of [undefined, 'tokens', 'key.0', 'logprobs', undefined].entries()) {
    runtime.failOn = failOn
    await run.run(oneRow(round % 3), output).catch(() => undefined)
  }
  expect(runtime.liveTensors).toBe(live)
  run.close()
  expect(runtime.liveTensors).toBe(0)
})
