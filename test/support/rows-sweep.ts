/**
 * Runs quiver::AddNorm and quiver::Gate over shapes by every instruction set, as a process of its own: the operators read
 * QUIVER_LORA_ISA from the true environment, and address checkers must be there before anything else.
 *
 *   node test/support/rows-sweep.ts LIBRARY SEED     prints one line of JSON
 */
import { setsHere, withSet } from './instruction-sets.ts'
import { randomFrom } from './random-seed.ts'
import { RowOperatorsUnderTest, referenceGate, referenceNorm } from './row-operators.ts'
import { sameBits } from './same-bits.ts'

/** The largest difference from the reference, as a part of its value, where that is a normal number of float32. */
const ROWS_TOLERANCE = 1e-5

/** Gate, up and silu(gate) · up where powers end. */
const extremes = [
  [Number.NaN, 1, Number.NaN],
  [1e4, 2, 20_000],
  [-1e4, 2, -0],
  [Number.POSITIVE_INFINITY, 1, Number.POSITIVE_INFINITY],
  [3e38, 1, Math.fround(3e38)],
  [-3e38, 1, -0],
] as const

/** Whole vectors of one value and a part of one. */
async function meetsExtremes(operators: RowOperatorsUnderTest): Promise<boolean> {
  const features = 17
  const x = new Float32Array(extremes.length * 2 * features)
  const wanted = new Float32Array(extremes.length * features)
  for (const [row, [gate, up, result]] of extremes.entries()) {
    x.fill(gate, 2 * row * features).fill(up, (2 * row + 1) * features)
    wanted.fill(result, row * features)
  }
  const gated = await operators.gate(x, features)
  return gated.every((value, i) => Object.is(value, wanted[i]))
}

/** A NaN in one row of a norm. */
async function keepsRowsApart(operators: RowOperatorsUnderTest): Promise<boolean> {
  const features = 33
  const residual = new Float32Array(3 * features).fill(1)
  residual[features + 20] = Number.NaN
  const weight = new Float32Array(features).fill(1)
  const { normed, sum } = await operators.norm({ residual, added: new Float32Array(3 * features).fill(1), weight })
  const isHarmed = (of: Float32Array, row: number) => of.subarray(row * features, (row + 1) * features).some(Number.isNaN)
  return [normed, sum].every((of) => !isHarmed(of, 0) && isHarmed(of, 1) && !isHarmed(of, 2))
}

export interface RowsSweepResult {
  readonly set: string
  readonly calls: number
  readonly failures: readonly string[]
}

const rowCounts = [1, 2, 7, 16, 130] as const
/** The default model's, and ends of every kind. */
const featureCounts = [576, 1536, 1, 5, 16, 17, 39, 600] as const
/** Sets with fused products; they add up in one order, to the same bits. */
const fused = new Set(['avx512', 'avx2', 'neon'])

function isClose(computed: Float32Array, reference: ArrayLike<number>): boolean {
  return computed.every((value, i) => {
    const wanted = reference[i] as number
    return Math.abs(value - wanted) <= ROWS_TOLERANCE * Math.abs(wanted) + 1e-37
  })
}

export async function sweepRows(library: string, seed: number): Promise<RowsSweepResult[]> {
  const results: RowsSweepResult[] = []
  const firsts = new Map<string, Float32Array>()
  for (const set of setsHere(library)) {
    const operators = await withSet(set, () => RowOperatorsUnderTest.open(library))
    const failures: string[] = []
    const random = randomFrom(seed)
    const matrix = (length: number, size: number) => Float32Array.from({ length }, () => (random() - 0.5) * size)
    let calls = 0
    for (const features of featureCounts) {
      for (const rows of rowCounts) {
        const name = `${rows} rows of ${features}`
        const check = (what: string, isRight: boolean) => {
          if (!isRight) failures.push(`${name}: ${what}`)
        }
        const asFirst = (what: string, values: Float32Array) => {
          const first = firsts.get(`${what} ${name}`)
          if (first === undefined && fused.has(set)) firsts.set(`${what} ${name}`, values)
          else if (first !== undefined && fused.has(set)) check(`${what} not to the bit`, sameBits(first, values))
        }
        const last = (rows - 1) * features
        const input = { residual: matrix(rows * features, 8), added: matrix(rows * features, 2), weight: matrix(features, 4) }
        const { normed, sum } = await operators.norm(input)
        const reference = referenceNorm(input)
        check('sum', sameBits(sum, reference.sum))
        check('normed', isClose(normed, reference.normed))
        asFirst('norm', normed)
        const alone = { ...input, residual: input.residual.slice(last), added: input.added.slice(last) }
        check('the last row alone', sameBits((await operators.norm(alone)).normed, normed.slice(last)))

        const x = matrix(rows * 2 * features, 40)
        const gated = await operators.gate(x, features)
        check('gate', isClose(gated, referenceGate(x, features)))
        asFirst('gate', gated)
        check('the last row alone', sameBits(await operators.gate(x.slice(2 * last), features), gated.slice(last)))
        calls += 2
      }
    }
    if (!(await meetsExtremes(operators))) failures.push('extreme gates')
    if (!(await keepsRowsApart(operators))) failures.push('a NaN in a neighbouring row')
    operators.close()
    results.push({ set, calls, failures })
  }
  return results
}

if (import.meta.main) {
  const [library = '', seed = '1'] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify(await sweepRows(library, Number(seed)))}\n`)
}
