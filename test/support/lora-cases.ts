/** Random calls of quiver::Lora: element type × rank × rows × how rows share adapters. */
import { type LoraCase, type LoraElement, type LoraPair, narrowed } from './lora-operator.ts'
import { randomFrom } from './random-seed.ts'

export const elements = ['f32', 'f16', 'bf16'] as const satisfies readonly LoraElement[]
export const rowCounts = [0, 1, 17, 256] as const
export const rankCounts = [1, 5, 8, 16, 64, 128, 'mixed'] as const
export type RankCount = (typeof rankCounts)[number] | number

/** Which slot each row uses. */
export const mixes = {
  one: () => 0,
  different: (row: number, slots: number) => row % slots,
  /** Half of the rows the first adapter, a fifth the base model, the others any. */
  skewed: (row: number, slots: number) => (row % 2 === 0 ? 0 : row % 5 === 0 ? -1 : (row * 7) % slots),
  base: () => -1,
} as const
export type Mix = keyof typeof mixes

export interface CaseShape {
  readonly seed: number
  readonly element: LoraElement
  readonly rank: RankCount
  readonly rows: number
  readonly mix: Mix
  readonly in: number
  readonly outs: readonly number[]
  /** How many more ranks a slot holds than any adapter has. */
  readonly spareRanks: number
}

/** Weights of all cases are pieces of this: drawing each would take longer than everything else. */
const weightTable = (() => {
  const random = randomFrom(42)
  return Float32Array.from({ length: 2 ** 17 }, () => random() * 2 - 1)
})()

const mixedRanks = [1, 128, 5, 16, 0, 64, 8, 3]

/** A call whose pools hold NaN wherever nothing may be read: past a slot's rank, and in slots that no row uses. */
export function loraCase({ seed, element, rank, rows, mix, in: inFeatures, outs, spareRanks }: CaseShape): LoraCase {
  const random = randomFrom(seed)
  const rankOf = (slot: number, pair: number) => (rank === 'mixed' ? (mixedRanks[(slot + pair) % 8] as number) : rank)
  const most = rank === 'mixed' ? 128 : rank
  // As many adapters as rows, unless their weights alone would take the test's time.
  const slots = Math.max(2, Math.min(rows, most <= 16 ? 256 : 24))
  const slot = Int32Array.from({ length: rows }, (_, row) => mixes[mix](row, slots))
  const used = new Set(slot)
  const maxRank = most + spareRanks
  const values = (length: number, size: number) => Float32Array.from({ length }, () => (random() * 2 - 1) * size)
  const pool = (features: number, ranks: readonly number[]): LoraPair['a'] => {
    const floats = new Float32Array(slots * maxRank * features).fill(Number.NaN)
    for (const [own, end] of ranks.entries()) {
      if (!used.has(own)) continue
      const start = own * maxRank * features
      const length = end * features
      const from = Math.floor(random() * (weightTable.length - length))
      floats.set(weightTable.subarray(from, from + length), start)
    }
    return narrowed(floats, element)
  }
  const pairs = outs.map((out, pair): LoraPair => {
    const ranks = Array.from({ length: slots }, (_, own) => rankOf(own, pair))
    return { a: pool(inFeatures, ranks), b: pool(out, ranks), out, ranks }
  })
  const columns = outs.reduce((sum, out) => sum + out, 0)
  return {
    rows,
    in: inFeatures,
    slots,
    maxRank,
    y: values(rows * columns, 4),
    x: values(rows * inFeatures, 1),
    slot,
    scale: values(slots, 2),
    pairs,
  }
}
