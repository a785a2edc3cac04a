/**
 * Runs quiver::AddNorm and quiver::Gate over shapes by every instruction set, as a process of its own: the operators read
 * QUIVER_LORA_ISA from the true environment, and address checkers must be there before anything else.
 *
 *   node test/support/rows-sweep.ts LIBRARY SEED     prints one line of JSON
 */
import { setsHere, withSet } from './instruction-sets.ts'
import { randomFrom } from './random-seed.ts'
import { RowOperatorsUnderTest, referenceGate, referenceNorm } from './row-operators.ts'

/** The largest difference from the reference, as a part of its value. */
export const ROWS_TOLERANCE = 1e-5

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

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength)
const sameBits = (left: Float32Array, right: Float32Array): boolean => bytesOf(left).equals(bytesOf(right))

function isClose(computed: Float32Array, reference: ArrayLike<number>): boolean {
  return computed.every((value, i) => {
    const wanted = reference[i] as number
    return Math.abs(value - wanted) <= ROWS_TOLERANCE * Math.abs(wanted) + Number.MIN_VALUE + 1e-37
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
    operators.close()
    results.push({ set, calls, failures })
  }
  return results
}

if (import.meta.main) {
  const [library = '', seed = '1'] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify(await sweepRows(library, Number(seed)))}\n`)
}
