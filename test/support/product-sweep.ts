/**
 * Runs quiver::Product8 over shapes and rows by every instruction set, as a process of its own: the operator reads
 * QUIVER_PRODUCT_ISA from the true environment, and address checkers must be there before anything else.
 *
 *   node test/support/product-sweep.ts LIBRARY SEED MOST_ROWS     prints one line of JSON
 */

import { loadNativeLibrary } from '../../packages/worker/src/engine/onnx/native-library.ts'
import { ProductOperatorUnderTest, type ProductShape, randomMatrix, randomProduct, worstPart } from './product-operator.ts'
import { randomFrom } from './random-seed.ts'
import { sameBits } from './same-bits.ts'

/** The largest difference from sums in double, as a part of Σ|terms|. */
export const PRODUCT_TOLERANCE = 1e-5

export interface ProductSweepResult {
  readonly set: string
  readonly calls: number
  readonly worst: number
  /** Calls that differed by more, or by a bit from the first instruction set, or from the same rows one at a time. */
  readonly failures: readonly string[]
}

const rowCounts = [1, 2, 4, 5, 8, 11, 16, 17, 33, 128, 300] as const
/** The default model's, one with ends of every kind, and one that a single block is too much for. */
const shapes: readonly (ProductShape & { readonly mostRows: number })[] = [
  { inputs: 576, outputs: 960, mostRows: 17 },
  { inputs: 576, outputs: 3072, mostRows: 5 },
  { inputs: 1536, outputs: 576, mostRows: 17 },
  { inputs: 576, outputs: 8192, mostRows: 1 },
  { inputs: 576, outputs: 96, mostRows: 300 },
  { inputs: 96, outputs: 33, mostRows: 300 },
  { inputs: 600, outputs: 49, mostRows: 33 },
  { inputs: 7, outputs: 5, mostRows: 33 },
  { inputs: 64, outputs: 16, mostRows: 300 },
]
const MOST_COMPARED = 24

const instructionSets = ['amx', 'avx512vnni', 'avxvnni', 'avx2', 'neondot', 'neon', 'scalar'] as const

/** Those that this processor has, the newest first. */
function setsHere(library: string): string[] {
  const handle = loadNativeLibrary(library)
  return instructionSets.filter((set) => {
    process.env['QUIVER_PRODUCT_ISA'] = set
    return handle.func('QuiverOpsProductSet', 'str', [])() === set
  })
}

/** One operator for each instruction set: it is chosen when a session is made. */
async function openAll(library: string, shape: ProductShape, sets: readonly string[]) {
  const opened: { set: string; operator: ProductOperatorUnderTest }[] = []
  for (const set of sets) {
    process.env['QUIVER_PRODUCT_ISA'] = set
    opened.push({ set, operator: await ProductOperatorUnderTest.open({ ...shape, library }) })
  }
  return opened
}

export async function sweepProducts(library: string, seed: number, mostRows: number): Promise<ProductSweepResult[]> {
  const results = new Map<string, { calls: number; worst: number; failures: string[] }>()
  const random = randomFrom(seed)
  const here = setsHere(library)
  for (const shape of shapes) {
    const sets = await openAll(library, shape, here)
    const weights = randomProduct(shape, random)
    const step = Math.ceil(shape.outputs / MOST_COMPARED)
    const compared = Array.from({ length: Math.ceil(shape.outputs / step) }, (_, i) => Math.min(i * step + 1, shape.outputs - 1))
    for (const rows of rowCounts.filter((count) => count <= Math.min(mostRows, shape.mostRows))) {
      const x = randomMatrix(rows * shape.inputs, random)
      let first: Float32Array | undefined
      for (const { set, operator } of sets) {
        const y = await operator.run(x, weights)
        const result = results.get(set) ?? { calls: 0, worst: 0, failures: [] }
        results.set(set, result)
        const name = `${rows} rows, ${shape.inputs} × ${shape.outputs}`
        result.calls += 1
        if (first === undefined) {
          first = y
          result.worst = Math.max(result.worst, worstPart(y, x, weights, shape, compared))
          if (result.worst > PRODUCT_TOLERANCE) result.failures.push(`${name}: ${result.worst}`)
        } else if (!sameBits(first, y)) result.failures.push(`${name}: not as by ${sets[0]?.set}`)
        const last = await operator.run(x.slice((rows - 1) * shape.inputs), weights)
        if (!sameBits(last, y.slice((rows - 1) * shape.outputs))) result.failures.push(`${name}: the last row alone differs`)
      }
    }
    for (const { operator } of sets) operator.close()
  }
  return [...results].map(([set, result]) => ({ set, ...result }))
}

if (import.meta.main) {
  const [library = '', seed = '1', mostRows = '300'] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify(await sweepProducts(library, Number(seed), Number(mostRows)))}\n`)
}
