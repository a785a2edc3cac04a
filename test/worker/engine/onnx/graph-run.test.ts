import { expect, test } from 'vitest'
import type { AttentionCache } from '../../../../packages/worker/src/engine/onnx/attention-cache.ts'
import { FlatCache } from '../../../../packages/worker/src/engine/onnx/flat-cache.ts'
import { GraphRun, type RunInput, type RunOutput } from '../../../../packages/worker/src/engine/onnx/graph-run.ts'
import { KvCache } from '../../../../packages/worker/src/engine/onnx/kv-cache.ts'
import type { Binding, OnnxRuntime, Tensor } from '../../../../packages/worker/src/engine/onnx/ort.ts'
import { StandardPools } from '../../../../packages/worker/src/engine/onnx/standard-pools.ts'
import { sequencesOf } from '../../../../packages/worker/src/engine/onnx/step-sequences.ts'
import { baseLayout, type ModelSpec } from '../../../../packages/worker/src/model/model-spec.ts'
import { stepRows } from '../../../support/engine-under-test.ts'
import { tinyModel } from '../../../support/tiny-models.ts'

const size = { sequences: 4, totalTokens: 16 }

/** ONNX Runtime without the arithmetic: counts tensors that live and notes what each name is bound to. */
class CountingRuntime implements OnnxRuntime {
  readonly version = 'none'
  readonly libraries = []
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
    return { handle, ...('buffer' in data && { memory: data.buffer }), release }
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

async function setUp(cacheOf: (spec: ModelSpec) => AttentionCache = (spec) => new KvCache(spec, size)) {
  const { spec, weights } = await tinyModel('llama-fp32-tied').open()
  await weights.close()
  const runtime = new CountingRuntime()
  const kv = cacheOf(spec)
  const run = new GraphRun({
    runtime,
    session: await runtime.createSession(),
    pools: new StandardPools(baseLayout(spec), { slots: 2, maxRank: 4, dtype: 'f32' }),
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
  })
  return { spec, runtime, run, kv }
}

const output: RunOutput = {
  top: 1,
  logprobs: new Float32Array(1),
  firstLogits: new Float32Array(1),
  topLogprobs: new Float32Array(1),
  topIds: new BigInt64Array(1),
  hidden: new Float32Array(0),
}

/** Two tokens of a sequence whose keys and values lie in row `id` of the cache, if the sequences come in their order. */
function runOf(kv: AttentionCache, id: number): RunInput {
  const [run] = kv.runs(sequencesOf({ rows: stepRows({ id, tokens: [1, 2] }), wanted: [] }))
  if (run === undefined) throw new Error('a step of two rows is a run')
  return {
    tokens: Int32Array.of(1, 2),
    slots: Int32Array.of(-1, -1),
    attention: run.inputs,
    cache: run.cache,
    wanted: Int32Array.of(0),
    pooled: new Int32Array(0),
  }
}

test('binds every layer of the cache anew after a run whose binding failed half-way', async () => {
  const { spec, runtime, run, kv } = await setUp()
  await run.run(runOf(kv, 0), output)
  const last = `value.${spec.layerCount - 1}`
  const before = runtime.bound.get(last)
  runtime.failOn = last
  await expect(run.run(runOf(kv, 1), output)).rejects.toThrow(`cannot bind ${last}`)
  runtime.failOn = undefined
  await run.run(runOf(kv, 1), output)
  expect(runtime.bound.get(last)).not.toBe(before)
  expect(runtime.bound.get(`new_${last}`)).toBe(runtime.bound.get(last))
})

test('holds as many tensors after many runs as after the first, also when some fail, and none after its end', async () => {
  const { runtime, run, kv } = await setUp()
  await run.run(runOf(kv, 0), output)
  const live = runtime.liveTensors
  for (const [round, failOn] of [undefined, 'tokens', 'key.0', 'logprobs', undefined].entries()) {
    runtime.failOn = failOn
    await run.run(runOf(kv, round % 3), output).catch(() => undefined)
  }
  expect(runtime.liveTensors).toBe(live)
  run.close()
  expect(runtime.liveTensors).toBe(0)
})

test('binds the rows of our own attention once for ever', async () => {
  const { spec, runtime, run, kv } = await setUp((own) => new FlatCache(own, { ...size, cacheType: 'f16' }))
  await run.run(runOf(kv, 0), output)
  const bound = [...runtime.bound].filter(([name]) => /^(key|value)\./.test(name))
  expect(bound.length).toBe(2 * spec.layerCount)
  await run.run(runOf(kv, 1), output)
  for (const [name, tensor] of bound) expect(runtime.bound.get(name)).toBe(tensor)
  expect([...runtime.bound.keys()].filter((name) => name.startsWith('new_'))).toEqual([])
})
