import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BlockIndex } from '../../../packages/worker/src/prefix/block-index.ts'
import { randomSeed } from '../../support/random-seed.ts'

/** A chain's names, as hashes over all before them are: `ab` is b after a. */
const chain = (text: string) => Array.from(text, (_, at) => text.slice(0, at + 1))

/** Adds what is missing of a chain. @returns the places */
const addAll = (index: BlockIndex, text: string) =>
  index.add(chain(text), index.match(chain(text)), text.length - index.match(chain(text)))

test('finds the longest beginning that is there', () => {
  const index = new BlockIndex(8)
  addAll(index, 'abc')
  expect(['abc', 'abcd', 'abx', 'x', ''].map((text) => index.match(chain(text)))).toEqual([3, 3, 2, 0, 0])
})

test('a block has one place for as long as it stays, whoever uses it', () => {
  const index = new BlockIndex(8)
  const places = addAll(index, 'abc')
  addAll(index, 'abd')
  expect(index.use(chain('abc'), 3)).toEqual(places)
  expect(index.use(chain('abd'), 2)).toEqual(places.slice(0, 2))
})

test('what was used least recently leaves first, from the end of its chain', () => {
  const index = new BlockIndex(4)
  addAll(index, 'ab')
  addAll(index, 'xy')
  index.use(chain('ab'), 2)
  expect(addAll(index, 'pq')).toHaveLength(2)
  expect(['ab', 'xy', 'pq'].map((text) => index.match(chain(text)))).toEqual([2, 0, 2])
  addAll(index, 'r')
  expect(index.match(chain('ab'))).toBe(1)
  expect(index.evicted).toBe(3)
})

test('a chain never pushes itself out', () => {
  const index = new BlockIndex(3)
  expect(addAll(index, 'abcde')).toHaveLength(3)
  expect(addAll(index, 'abcde')).toEqual([])
  expect(index.match(chain('abcde'))).toBe(3)
  expect(index.evicted).toBe(0)
})

test('nothing is added above a gap, and nothing twice', () => {
  const index = new BlockIndex(8)
  addAll(index, 'ab')
  expect(index.add(chain('abcd'), 3, 1)).toEqual([])
  expect(index.add(chain('ab'), 0, 2)).toEqual([])
  expect(index.size).toBe(2)
})

describe('whatever is added and used', () => {
  /** Few letters, so that chains share beginnings. */
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 9 })
  const turn = fc.record({ kind: fc.constantFrom('add' as const, 'use' as const), text, count: fc.integer({ min: 1, max: 9 }) })

  test('no block stands on one that is gone, none shares a place, and there are never more than there are places', () => {
    const seed = randomSeed('block index')
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.array(turn, { maxLength: 60 }), (places, turns) => {
        const index = new BlockIndex(places)
        /** What was put into each place last, as the memory behind the index would have it. */
        const content = new Map<number, string>()
        for (const { kind, text: name, count } of turns) {
          const keys = chain(name)
          const from = index.match(keys)
          if (kind === 'use') {
            const used = index.use(keys, from)
            expect(used.map((place) => content.get(place))).toEqual(keys.slice(0, from))
          } else for (const [i, place] of index.add(keys, from, count).entries()) content.set(place, keys[from + i] ?? '')
          const blocks = [...index]
          const names = new Set(blocks.map(({ key }) => key))
          expect(index.size).toBeLessThanOrEqual(places)
          expect(new Set(blocks.map(({ place }) => place)).size).toBe(blocks.length)
          expect(blocks.every(({ before }) => before === undefined || names.has(before))).toBe(true)
          expect(blocks.every(({ place, key }) => place < places && content.get(place) === key)).toBe(true)
          // Who has blocks standing on it is never the next to leave.
          expect(blocks.some(({ before }) => before !== undefined && before === blocks[0]?.key)).toBe(false)
        }
      }),
      { seed },
    )
  })
})
