/**
 * Which rows share an adapter, laid out as the rectangle that batched products need: `tiles` × `width` rows, one adapter a
 * tile, padded by repeating a row whose result nobody reads. An adapter with many rows may fill several tiles: reading its
 * weights again is cheaper than padding every other adapter to its length. Rows of the base model all read one tile whose
 * weights are the pool's zero row. Its input is one of theirs: zero times another adapter's overflow would be NaN.
 */

/** Reading one tile's weights costs as much as computing this many rows with them (bench/engine, 576-wide rank 16). */
const TILE_COST_ROWS = 6

export interface LoraTiles {
  readonly tiles: number
  readonly width: number
  /** The largest rank among the adapters present, at least 1. */
  readonly rank: number
  /** [tiles, width] row of the batch whose input stands here. */
  readonly rows: Int32Array<ArrayBuffer>
  /** [rows of the batch] place in the flattened rectangle where its result stands. */
  readonly back: Int32Array<ArrayBuffer>
  /** [tiles] slot of each tile; −1 is the base model. */
  readonly slots: Int32Array<ArrayBuffer>
}

/**
 * @param slots slot of each row of the batch, −1 for the base model
 * @param rankOf rank of the adapter in a slot
 * @example tileRows(Int32Array.of(3, 3, -1), () => 16) // 2 tiles of width 2
 */
export function tileRows(slots: ArrayLike<number>, rankOf: (slot: number) => number): LoraTiles {
  const bySlot = new Map<number, number[]>()
  for (let row = 0; row < slots.length; row += 1) {
    const slot = slots[row] as number
    const rows = bySlot.get(slot)
    if (rows) rows.push(row)
    else bySlot.set(slot, [row])
  }
  const baseRows = bySlot.get(-1) ?? []
  bySlot.delete(-1)
  const groups = [...bySlot]
  const width = chooseWidth(groups.map(([, rows]) => rows.length))
  const adapterTiles = countTiles(groups, width)
  const tiles = adapterTiles + (baseRows.length > 0 ? 1 : 0)
  const layout = {
    tiles,
    width,
    rank: Math.max(1, ...groups.map(([slot]) => rankOf(slot))),
    rows: new Int32Array(tiles * width),
    back: new Int32Array(slots.length),
    slots: new Int32Array(tiles).fill(-1),
  }
  let tile = 0
  for (const [slot, rows] of groups) {
    for (let start = 0; start < rows.length; start += width, tile += 1) {
      layout.slots[tile] = slot
      for (let i = 0; i < width; i += 1) {
        const row = rows[start + i]
        layout.rows[tile * width + i] = row ?? (rows[start] as number)
        if (row !== undefined) layout.back[row] = tile * width + i
      }
    }
  }
  const basePlace = adapterTiles * width
  layout.rows.fill(baseRows[0] ?? 0, basePlace)
  for (const row of baseRows) layout.back[row] = basePlace
  return layout
}

function countTiles(groups: readonly (readonly [number, readonly number[]])[], width: number): number {
  return groups.reduce((sum, [, rows]) => sum + Math.ceil(rows.length / width), 0)
}

/** The width with the least work, tiles × (reading the weights + computing the rows): the longest run or a power of two below. */
function chooseWidth(lengths: readonly number[]): number {
  const cost = (width: number): number =>
    lengths.reduce((tiles, length) => tiles + Math.ceil(length / width), 0) * (TILE_COST_ROWS + width)
  const longest = Math.max(1, ...lengths)
  const powers = Array.from({ length: Math.ceil(Math.log2(longest)) }, (_, exponent) => 2 ** exponent)
  return powers.reduce((best, width) => (cost(width) < cost(best) ? width : best), longest)
}

/**
 * Pool rows that a tile gathers: row 0 of a pool is zero, slot s with `modules` parts of `maxRank` rows starts at
 * 1 + s·modules·maxRank. Ranks past an adapter's own read the zero row.
 * @returns [tiles, modules·rank], module after module
 */
export function poolRows(
  layout: LoraTiles,
  modules: number,
  maxRank: number,
  rankOf: (slot: number) => number,
): Int32Array<ArrayBuffer> {
  const { tiles, rank, slots } = layout
  const index = new Int32Array(tiles * modules * rank)
  for (let tile = 0; tile < tiles; tile += 1) {
    const slot = slots[tile] as number
    const own = slot < 0 ? 0 : rankOf(slot)
    for (let module = 0; module < modules; module += 1) {
      const first = 1 + (slot * modules + module) * maxRank
      const at = (tile * modules + module) * rank
      for (let r = 0; r < own; r += 1) index[at + r] = first + r
    }
  }
  return index
}
