/**
 * Products with 8-bit weights, by quiver::Product8 and by MatMulNBits: a chain of as many as the default model has weights in its
 * layers, 576 → 1,536 → 576 …, each with weights of its own, so that those of a step come from memory as they do when it serves.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { GraphWeights } from '../../packages/worker/src/engine/onnx/graph-weights.ts'
import { OnnxModelBuilder } from '../../packages/worker/src/engine/onnx/onnx-model.ts'
import { loadOnnxRuntime, type OnnxRuntime, type Session } from '../../packages/worker/src/engine/onnx/ort.ts'
import type { ProductForm } from '../../packages/worker/src/engine/onnx/product-form.ts'
import { WeightFile } from '../../packages/worker/src/engine/onnx/weight-file.ts'
import type { BenchContext } from '../bench.ts'
import { benchOperator } from '../shared/bench-operator.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured, type Target } from '../shared/figure.ts'
import { interleave, timed } from '../shared/interleave.ts'
import { type Random, seededRandom } from '../shared/random.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'

const FEATURES = 576
const WIDE = 1536
const PAIRS = 60
const WEIGHT_BYTES = PAIRS * 2 * FEATURES * WIDE

/** Of Product8's time, as a part of MatMulNBits's. */
const targets: Readonly<Record<number, Target>> = {
  1: { at: 'most', value: 1.05 },
  16: { at: 'most', value: 0.8 },
  128: { at: 'most', value: 0.6 },
}
const ways = { operator: 'quiver::Product8', standard: 'MatMulNBits' } as const
type Way = keyof typeof ways
const names: readonly Way[] = ['operator', 'standard']

export async function measureProducts(context: BenchContext): Promise<Figure[]> {
  const { config, cleanUp, signal, progress } = context
  const operator = await benchOperator(context, 'operator')
  const folder = await temporaryFolder(cleanUp)
  const random = seededRandom(context.seed)
  const weights = randomWeights(random)
  const runtime = loadOnnxRuntime()
  const sessions: Partial<Record<Way, Session>> = {}
  for (const way of names) {
    progress(`products: weights for ${ways[way]}`)
    const file = await chain(path.join(folder, way), way, weights)
    sessions[way] = await runtime.createSession(file, {
      threads: config.threads,
      operatorLibraries: operator === undefined ? [] : [operator.path],
      config: { 'session.intra_op.allow_spinning': '0' },
    })
  }
  const figures: Figure[] = []
  for (const rows of [1, 4, 16, 32, 128, 512]) {
    const runs = names.map((way) => chainRun(runtime, sessions[way] as Session, rows, random))
    for (const run of runs) await run.run()
    const rounds = Math.ceil((context.quick ? 4 : 40) / (rows > 32 ? 2 : 1))
    progress(`products of ${rows} rows: ${rounds} each`)
    const samples = await interleave(names, { rounds, random, signal }, (way) =>
      timed(async () => await runs[names.indexOf(way)]?.run()),
    )
    for (const run of runs) run.close()
    figures.push(...figuresOf(rows, (way) => samples.of(way)))
  }
  for (const session of Object.values(sessions)) session.close()
  runtime.close()
  return figures
}

function figuresOf(rows: number, of: (way: Way) => readonly number[]): Figure[] {
  const group = `Products with 8-bit weights (${(WEIGHT_BYTES / 1e6).toFixed(0)} million of them), ${rows === 1 ? '1 row' : `${rows} rows`}`
  const times = names.map((way) => {
    const summary = summarise(of(way))
    return measured({ id: `products.rows${rows}.${way}`, group, label: ways[way], unit: 'ms' }, summary)
  })
  const medianMs = summarise(of('operator')).median
  const target = targets[rows]
  const ratio: Figure = {
    id: `products.rows${rows}.ratio`,
    group,
    label: `${ways.operator} ÷ ${ways.standard}`,
    unit: 'x',
    value: ratioOfMedians(of('operator'), of('standard')),
    ...(target === undefined ? {} : { target }),
  }
  const rate: Figure =
    rows <= 4
      ? rateFigure(group, `products.rows${rows}.operator.rate`, 'GB/s', (WEIGHT_BYTES * 1.0625) / medianMs / 1e6)
      : rateFigure(group, `products.rows${rows}.operator.rate`, 'GFLOP/s', (2 * WEIGHT_BYTES * rows) / medianMs / 1e6)
  return [...times, ratio, rate]
}

function rateFigure(group: string, id: string, unit: 'GB/s' | 'GFLOP/s', value: number): Figure {
  return { id, group, label: `${ways.operator}: ${unit === 'GB/s' ? 'weights read' : 'products and sums'}`, unit, value }
}

/** What every product's weights are made of. */
function randomWeights(random: Random): Float32Array<ArrayBuffer> {
  // Rows keep their size through the chain: the sum of `in` products with uniform values.
  const size = 2 * Math.sqrt(3 / Math.sqrt(FEATURES * WIDE))
  return Float32Array.from({ length: FEATURES * WIDE }, () => (random() - 0.5) * size)
}

/** @returns the path of the model */
async function chain(folder: string, products: ProductForm, weight: Float32Array<ArrayBuffer>): Promise<string> {
  await mkdir(folder)
  const dataFile = 'weights.bin'
  const model = new OnnxModelBuilder(dataFile)
  const file = await WeightFile.create(path.join(folder, dataFile))
  const source = { has: () => true, read: async () => weight, close: async () => {} }
  const weights = new GraphWeights({ model, weights: source, file, dtype: 'int8', products })
  let x = model.input('x', 'f32', ['rows', FEATURES])
  for (let product = 0; product < 2 * PAIRS; product += 1) {
    // Different for each: ONNX Runtime holds equal weights once.
    const own = weight.map((value, i) => value * (1 + ((i + product) % PAIRS) / FEATURES))
    x = await weights.product(`product.${product}`, x, own, product % 2 === 0 ? FEATURES : WIDE)
  }
  model.nodeInto('Identity', [x], ['y'])
  model.output('y', 'f32', ['rows', FEATURES])
  await file.finish()
  const modelFile = path.join(folder, 'model.onnx')
  await writeFile(modelFile, model.encode())
  return modelFile
}

function chainRun(runtime: OnnxRuntime, session: Session, rows: number, random: Random) {
  const binding = session.createBinding()
  const x = Float32Array.from({ length: rows * FEATURES }, () => random() - 0.5)
  const tensors = [
    runtime.tensor('f32', [rows, FEATURES], x),
    runtime.tensor('f32', [rows, FEATURES], new Float32Array(x.length)),
  ] as const
  binding.bindInput('x', tensors[0])
  binding.bindOutput('y', tensors[1])
  return {
    run: () => binding.run(),
    close() {
      binding.close()
      for (const tensor of tensors) tensor.release()
    },
  }
}
