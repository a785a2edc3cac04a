/**
 * Runs every random call of lora-cases.ts by a library of quiver::Lora and each instruction set, as a process of its own: the
 * operator reads QUIVER_LORA_ISA from the true environment, and address checkers must be there before anything else.
 *
 *   node test/support/lora-sweep.ts LIBRARY SEED MOST_ROWS     prints one line of JSON
 */

import { setsHere, withSet } from './instruction-sets.ts'
import { type CaseShape, elements, loraCase, type Mix, mixes, type RankCount, rankCounts, rowCounts } from './lora-cases.ts'
import {
  columnsOf,
  type LoraCase,
  type LoraElement,
  type LoraGraph,
  LoraOperatorUnderTest,
  type LoraReference,
  loraReference,
} from './lora-operator.ts'

/** What is promised in kernels/host/tiles.h: the largest difference, as a part of Σ|terms|. */
export const LORA_TOLERANCE = 1e-5

export interface SweepResult {
  readonly set: string
  readonly calls: number
  /** The largest difference met, as a part of Σ|terms|. */
  readonly worst: number
  /** Calls that differed by more. */
  readonly failures: readonly string[]
}

/** Beyond the sweep: more features than a panel of weights has, ranks beyond one task's, and outputs of one element. */
const odd: readonly Omit<CaseShape, 'element' | 'seed' | 'spareRanks'>[] = [
  ...([1, 7, 8, 40] as const).map((rows) => ({ rank: 20, rows, mix: 'one' as Mix, in: 1100, outs: [70] })),
  { rank: 300, rows: 3, mix: 'different', in: 24, outs: [40] },
  { rank: 300, rows: 40, mix: 'one', in: 24, outs: [130] },
  { rank: 2, rows: 5, mix: 'skewed', in: 1, outs: [1] },
  { rank: 64, rows: 33, mix: 'skewed', in: 512, outs: [640] },
]

function shapes(element: LoraElement, seed: number, mostRows: number): CaseShape[] {
  const mixNames = Object.keys(mixes) as Mix[]
  const all = rankCounts.flatMap((rank: RankCount) =>
    rowCounts
      .filter((rows) => rows <= mostRows)
      .flatMap((rows) => mixNames.map((mix) => ({ rank, rows, mix, in: 43, outs: [9, 64, 70] }))),
  )
  // Without spare ranks the pools end where the last weights do, so that reading on leaves their memory.
  return [...all, ...odd].map((shape, i) => ({ ...shape, element, seed: seed + i, spareRanks: i < all.length ? 2 : 0 }))
}

/** What computes: one instruction set for each graph, since it is chosen when a session is made. */
async function openAll(library: string, graph: Omit<LoraGraph, 'library'>, sets: readonly string[]) {
  const opened: LoraOperatorUnderTest[] = []
  for (const set of sets) {
    opened.push(await withSet(set, () => LoraOperatorUnderTest.open({ ...graph, library })))
  }
  return opened
}

/** The largest difference as a part of Σ|terms|; infinite where a row of the base model is not given back to the bit. */
function worstPart(computed: Float32Array, lora: LoraCase, { y, magnitude }: LoraReference): number {
  const columns = columnsOf(lora)
  let worst = 0
  for (const [i, value] of computed.entries()) {
    const difference = Math.abs(value - (y[i] as number))
    const isBase = lora.slot[Math.floor(i / columns)] === -1
    const allowed = isBase ? 0 : (magnitude[i] as number)
    const part = difference === 0 ? 0 : difference / allowed
    worst = Number.isNaN(part) ? Number.POSITIVE_INFINITY : Math.max(worst, part)
  }
  return worst
}

/** Every case of up to `mostRows` rows by every instruction set that this processor has. */
export async function sweep(library: string, seed: number, mostRows: number): Promise<SweepResult[]> {
  const sets = setsHere(library)
  const results = sets.map((set) => ({ set, calls: 0, worst: 0, failures: [] as string[] }))
  for (const element of elements) {
    const three = await openAll(library, { element, pairs: 3, inPlace: true, site: 2 }, sets)
    const one = await openAll(library, { element, pairs: 1, inPlace: false }, sets)
    for (const shape of shapes(element, seed, mostRows)) {
      const lora = loraCase(shape)
      const reference = loraReference(lora, element)
      for (const [i, operator] of (shape.outs.length === 3 ? three : one).entries()) {
        const part = worstPart(await operator.run(lora), lora, reference)
        const result = results[i] as (typeof results)[number]
        result.calls += 1
        result.worst = Math.max(result.worst, part)
        if (part > LORA_TOLERANCE) result.failures.push(`${JSON.stringify(shape)}: ${part}`)
      }
    }
    for (const operator of [...three, ...one]) operator.close()
  }
  return results
}

if (import.meta.main) {
  const [library = '', seed = '1', mostRows = '256'] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify(await sweep(library, Number(seed), Number(mostRows)))}\n`)
}
