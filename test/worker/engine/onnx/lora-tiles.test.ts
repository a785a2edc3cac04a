import fc from 'fast-check'
import { expect, test } from 'vitest'
import { poolRows, tileRows } from '../../../../packages/worker/src/engine/onnx/lora-tiles.ts'

const slotsOf = fc.array(fc.integer({ min: -1, max: 5 }), { minLength: 1, maxLength: 40 })
const rankOf = (slot: number): number => slot + 1

test('sends every row to a place of its own slot that reads the row itself', () => {
  fc.assert(
    fc.property(slotsOf, (slots) => {
      const layout = tileRows(slots, rankOf)
      for (const [row, slot] of slots.entries()) {
        const place = layout.back[row] ?? -1
        expect(layout.slots[Math.floor(place / layout.width)]).toBe(slot)
        const input = layout.rows[place] ?? -1
        if (slot >= 0) expect(input).toBe(row)
        // Zero times a row of another adapter is NaN where that row overflows.
        else expect(slots[input]).toBe(slot)
      }
    }),
  )
})

test('reads each adapter’s weights once when every row has its own', () => {
  const layout = tileRows([4, 2, 0, 5], rankOf)
  expect({ tiles: layout.tiles, width: layout.width }).toEqual({ tiles: 4, width: 1 })
})

test('puts rows that share one adapter into one tile', () => {
  const layout = tileRows([3, 3, 3, 3, 3, 3], rankOf)
  expect({ tiles: layout.tiles, width: layout.width, rank: layout.rank }).toEqual({ tiles: 1, width: 6, rank: 4 })
})

test('does not pad many single rows to the length of one long run', () => {
  const slots = [...Array<number>(64).fill(0), 1, 2, 3, 4, 5]
  const layout = tileRows(slots, rankOf)
  expect(layout.tiles * layout.width).toBeLessThan(slots.length * 3)
})

test('gives a batch without adapters one tile of rank 1 that reads zeros', () => {
  const layout = tileRows([-1, -1, -1], rankOf)
  expect({ tiles: layout.tiles, width: layout.width, rank: layout.rank }).toEqual({ tiles: 1, width: 1, rank: 1 })
  expect([...poolRows(layout, 3, 64, rankOf)]).toEqual([0, 0, 0])
})

test('takes the rank of the adapters present, not of those that only have a slot', () => {
  expect(tileRows([0, 1], rankOf).rank).toBe(2)
})

test('gathers each module’s own rows of a slot and zeros beyond its rank', () => {
  const layout = tileRows([1, 0], (slot) => (slot === 1 ? 3 : 1))
  expect([...poolRows(layout, 2, 4, (slot) => (slot === 1 ? 3 : 1))]).toEqual([9, 10, 11, 13, 14, 15, 1, 0, 0, 5, 0, 0])
})
