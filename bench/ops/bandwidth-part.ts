/**
 * How fast the operator reads adapter weights when it has nothing else to do: a chain of nodes, each with pools of its own, one
 * row for each adapter. Against it a sum over as many bytes by ONNX Runtime, which does nothing but read; both work through
 * all their memory before they come back to its beginning, so that the caches help both alike.
 */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { writeF16 } from '@quiver/cache/format'
import { OnnxModelBuilder } from '../../packages/worker/src/engine/onnx/onnx-model.ts'
import {
  type Binding,
  type ElementType,
  loadOnnxRuntime,
  type OnnxRuntime,
  type Tensor,
  type TensorData,
} from '../../packages/worker/src/engine/onnx/ort.ts'
import type { BenchContext } from '../bench.ts'
import { benchOperator } from '../shared/bench-operator.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import type { Figure } from '../shared/figure.ts'
import { interleave, timed } from '../shared/interleave.ts'
import { seededRandom } from '../shared/random.ts'
import { quantile } from '../shared/statistics.ts'

/** Of a model with 7 thousand million parameters, q or o. */
const FEATURES = 4096
const RANK = 16
const ADAPTERS = 16
const NODES = 64
const BYTES = NODES * ADAPTERS * RANK * 2 * FEATURES * 2
/** Rows that the sum is cut into, so that all threads have some. */
const SUM_ROWS = 256
const LEAST_SHARE = 0.7

interface Run {
  readonly binding: Binding
  close(): void
}

export async function measureBandwidth(context: BenchContext): Promise<Figure[]> {
  const { config, cleanUp, signal, progress } = context
  const operator = await benchOperator(context, 'operator')
  const folder = await temporaryFolder(cleanUp)
  const runtime = loadOnnxRuntime()
  const random = seededRandom(context.seed)
  const weights = new Uint16Array(BYTES / 2)
  const piece = new Uint16Array(1 << 16)
  writeF16(
    Float32Array.from({ length: piece.length }, () => (random() - 0.5) * 0.04),
    piece,
  )
  for (let at = 0; at < weights.length; at += piece.length) weights.set(piece, at)
  const open = async (name: string, model: Uint8Array, libraries: readonly string[], tensors: readonly NamedTensor[]) => {
    const file = path.join(folder, name)
    await writeFile(file, model)
    const settings = { 'session.intra_op.allow_spinning': '0' }
    const session = await runtime.createSession(file, { threads: config.threads, operatorLibraries: libraries, config: settings })
    return bound(runtime, session.createBinding(), tensors, () => session.close())
  }
  const lora = await open('lora.onnx', loraChain(), operator === undefined ? [] : [operator.path], loraTensors(weights))
  const sum = await open('sum.onnx', sumModel(), [], sumTensors(weights))
  const rounds = context.quick ? 3 : 20
  progress(`bandwidth: ${rounds} times ${(BYTES / 1e6).toFixed(0)} MB each`)
  for (const { binding } of [lora, sum]) await binding.run()
  const runs = { lora, sum }
  const samples = await interleave(['lora', 'sum'] as const, { rounds, random, signal }, (name) =>
    timed(() => runs[name].binding.run()),
  )
  for (const run of [lora, sum]) run.close()
  runtime.close()
  const rate = (name: 'lora' | 'sum') => BYTES / quantile(samples.of(name), 0.5) / 1e6
  const group = `Reading adapter weights (${ADAPTERS} adapters of rank ${RANK}, ${FEATURES} features in and out, ${NODES} modules)`
  return [
    { id: 'bandwidth.lora', group, label: 'quiver::Lora, one row each', unit: 'GB/s', value: rate('lora') },
    { id: 'bandwidth.sum', group, label: 'a sum over as many bytes', unit: 'GB/s', value: rate('sum') },
    {
      id: 'bandwidth.share',
      group,
      label: 'quiver::Lora ÷ sum',
      unit: 'x',
      value: rate('lora') / rate('sum'),
      target: { at: 'least', value: LEAST_SHARE },
    },
  ]
}

interface NamedTensor {
  readonly direction: 'input' | 'output'
  readonly name: string
  readonly type: ElementType
  readonly shape: readonly number[]
  readonly data: TensorData
}

function bound(runtime: OnnxRuntime, binding: Binding, named: readonly NamedTensor[], closeSession: () => void): Run {
  const tensors = named.map(({ direction, name, type, shape, data }): Tensor => {
    const tensor = runtime.tensor(type, shape, data)
    if (direction === 'input') binding.bindInput(name, tensor)
    else binding.bindOutput(name, tensor)
    return tensor
  })
  return {
    binding,
    close() {
      binding.close()
      for (const tensor of tensors) tensor.release()
      closeSession()
    },
  }
}

function loraChain(): Uint8Array {
  const model = new OnnxModelBuilder('')
  for (const name of ['y', 'x']) model.input(name, 'f32', [ADAPTERS, FEATURES])
  model.input('slot', 'i32', [ADAPTERS])
  model.input('rank', 'i32', [1, ADAPTERS])
  model.input('scale', 'f32', [ADAPTERS])
  let y = 'y'
  for (let node = 0; node < NODES; node += 1) {
    const pools = ['a', 'b'].map((kind) => model.input(`${kind}${node}`, 'f16', [ADAPTERS, RANK, FEATURES]))
    const next = node === NODES - 1 ? 'result' : `y${node}`
    model.nodeInto('Lora', [y, 'x', 'slot', 'rank', 'scale', ...pools], [next], { site: 0 }, 'quiver')
    y = next
  }
  model.output('result', 'f32', [ADAPTERS, FEATURES])
  return model.encode()
}

function loraTensors(weights: Uint16Array<ArrayBuffer>): NamedTensor[] {
  const activations = [ADAPTERS, FEATURES]
  const zeros = () => new Float32Array(ADAPTERS * FEATURES)
  const size = ADAPTERS * RANK * FEATURES
  const pools = Array.from({ length: NODES * 2 }, (_, i): NamedTensor => {
    const data = weights.subarray(i * size, (i + 1) * size)
    return {
      direction: 'input',
      name: `${i % 2 === 0 ? 'a' : 'b'}${i >> 1}`,
      type: 'f16',
      shape: [ADAPTERS, RANK, FEATURES],
      data,
    }
  })
  return [
    { direction: 'input', name: 'y', type: 'f32', shape: activations, data: zeros() },
    { direction: 'input', name: 'x', type: 'f32', shape: activations, data: zeros().fill(0.5) },
    {
      direction: 'input',
      name: 'slot',
      type: 'i32',
      shape: [ADAPTERS],
      data: Int32Array.from({ length: ADAPTERS }, (_, i) => i),
    },
    { direction: 'input', name: 'rank', type: 'i32', shape: [1, ADAPTERS], data: new Int32Array(ADAPTERS).fill(RANK) },
    { direction: 'input', name: 'scale', type: 'f32', shape: [ADAPTERS], data: new Float32Array(ADAPTERS).fill(1) },
    ...pools,
    { direction: 'output', name: 'result', type: 'f32', shape: activations, data: zeros() },
  ]
}

function sumModel(): Uint8Array {
  const model = new OnnxModelBuilder('')
  model.input('values', 'f32', [SUM_ROWS, BYTES / 4 / SUM_ROWS])
  model.nodeInto('ReduceSum', ['values', model.constant([1])], ['result'], { keepdims: 0 })
  model.output('result', 'f32', [SUM_ROWS])
  return model.encode()
}

function sumTensors(weights: Uint16Array<ArrayBuffer>): NamedTensor[] {
  const values = new Float32Array(weights.buffer)
  return [
    { direction: 'input', name: 'values', type: 'f32', shape: [SUM_ROWS, BYTES / 4 / SUM_ROWS], data: values },
    { direction: 'output', name: 'result', type: 'f32', shape: [SUM_ROWS], data: new Float32Array(SUM_ROWS) },
  ]
}
