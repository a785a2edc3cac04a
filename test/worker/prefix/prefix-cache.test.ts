import type { SequenceId } from '@quiver/protocol'
import { expect, test } from 'vitest'
import type { PrefixMemory } from '../../../packages/worker/src/engine/engine.ts'
import { BLOCK_TOKENS } from '../../../packages/worker/src/prefix/block-keys.ts'
import { PrefixCache } from '../../../packages/worker/src/prefix/prefix-cache.ts'

const owner = { tenant: 'acme' }
const id = (sequence: number) => sequence as SequenceId
const blocks = (count: number, first = 0) => Array.from({ length: count * BLOCK_TOKENS + 1 }, (_, at) => first + at)

function cacheOver({ places = 16, sliceBlocks = 100 } = {}) {
  const tokenBytes = 4
  const sliceBytes = sliceBlocks * BLOCK_TOKENS * tokenBytes
  const copies: string[] = []
  const memory: PrefixMemory = {
    tokenBytes,
    copyOut: (sequence, from, count, target) => {
      copies.push(`out ${sequence} ${from}`)
      target.fill(sequence * 16 + from / BLOCK_TOKENS)
      expect(target).toHaveLength(count * tokenBytes)
    },
    copyIn: (sequence, from, count, source) => {
      const [mark = 0] = source
      copies.push(`in ${sequence} ${from} of ${mark >> 4}`)
      expect([source.length, mark % 16]).toEqual([count * tokenBytes, from / BLOCK_TOKENS])
    },
  }
  const budgetBytes = places * BLOCK_TOKENS * tokenBytes
  const failures: unknown[] = []
  const cache = new PrefixCache({ memory, budgetBytes, sliceBytes, base: 'model', fatal: (error) => failures.push(error) })
  /** A sequence that is admitted and computes all of its prompt. */
  const compute = async (sequence: number, tokens: readonly number[]) => {
    const cached = cache.restore(id(sequence), cache.keys(owner, tokens), tokens.length)
    await cache.restored()
    cache.computed(id(sequence), tokens.length)
    return cached
  }
  return { cache, copies, compute, failures }
}

async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate)
}

test('what one sequence computed another one copies, each block in its place', async () => {
  const { compute, copies } = cacheOver()
  expect(await compute(1, blocks(3))).toBe(0)
  await turns()
  expect(await compute(2, blocks(3))).toBe(3 * BLOCK_TOKENS)
  expect(copies).toEqual(['out 1 0', 'out 1 16', 'out 1 32', 'in 2 0 of 1', 'in 2 16 of 1', 'in 2 32 of 1'])
})

test('the last token of a prompt is always computed', async () => {
  const { cache, compute } = cacheOver()
  await compute(1, blocks(3))
  await turns()
  const whole = blocks(3).slice(0, 3 * BLOCK_TOKENS)
  expect(cache.cachedTokens(cache.keys(owner, whole), whole.length)).toBe(2 * BLOCK_TOKENS)
})

test('copies no more than a slice in a turn of the event loop, either way', async () => {
  const { cache, compute, copies } = cacheOver({ sliceBlocks: 2 })
  await compute(1, blocks(6))
  const seen: number[] = []
  for (let turn = 0; turn < 4; turn += 1) {
    await turns(1)
    seen.push(copies.length)
  }
  expect(seen).toEqual([2, 4, 6, 6])
  cache.restore(id(2), cache.keys(owner, blocks(6)), blocks(6).length)
  const restored = cache.restored()
  expect(copies.length).toBe(8)
  await restored
  expect(copies.length).toBe(12)
})

test('a sequence that leaves while its blocks wait keeps the cache whole and is not copied again', async () => {
  const { cache, compute, copies } = cacheOver({ sliceBlocks: 2 })
  await compute(1, blocks(6))
  await turns(1)
  cache.leave(id(1), 'broken')
  await turns()
  expect(copies).toHaveLength(2)
  expect(cache.cachedTokens(cache.keys(owner, blocks(6)), 1_000)).toBe(2 * BLOCK_TOKENS)
})

test('one that leaves complete is copied by two slices more', async () => {
  const { cache, compute, copies } = cacheOver({ sliceBlocks: 2 })
  await compute(1, blocks(6))
  cache.leave(id(1), 'complete')
  await turns()
  expect(copies).toHaveLength(4)
})

test('no block leaves between being found and being copied in', async () => {
  const { cache, compute, copies } = cacheOver({ places: 4, sliceBlocks: 2 })
  await compute(1, blocks(4))
  await turns()
  copies.length = 0
  // Somebody else's blocks wait to be copied out, for which all of these have to leave.
  cache.restore(id(3), cache.keys(owner, blocks(4, 500)), 70)
  cache.computed(id(3), 64)
  expect(cache.restore(id(2), cache.keys(owner, blocks(4)), 70)).toBe(4 * BLOCK_TOKENS)
  await cache.restored()
  await turns()
  expect(copies.slice(0, 4)).toEqual(['in 2 0 of 1', 'in 2 16 of 1', 'in 2 32 of 1', 'in 2 48 of 1'])
  expect(cache.usage()).toMatchObject({ blocks: 4, evicted: 4, hits: 1, misses: 2 })
})

test('two sequences that compute the same keep it once', async () => {
  const { cache, compute, copies } = cacheOver()
  await Promise.all([compute(1, blocks(3)), compute(2, blocks(3))])
  await turns()
  expect(copies).toHaveLength(3)
  expect(cache.usage().blocks).toBe(3)
})

test('takes memory when it is used, and never more than its budget', async () => {
  const { cache, compute } = cacheOver({ places: 5, sliceBlocks: 2 })
  expect(cache.usage().bytes).toBe(0)
  for (const sequence of [1, 2, 3, 4]) {
    await compute(sequence, blocks(3, sequence * 1_000))
    await turns()
  }
  const { bytes, budgetBytes, blocks: kept } = cache.usage()
  expect(bytes).toBeLessThanOrEqual(budgetBytes)
  expect(kept).toBe(5)
})

test('a prompt longer than the cache is kept as far as it fits', async () => {
  const { cache, compute } = cacheOver({ places: 2 })
  await compute(1, blocks(9))
  await turns()
  expect(await compute(2, blocks(9))).toBe(2 * BLOCK_TOKENS)
  expect(cache.usage().evicted).toBe(0)
})

test('a copy that fails is fatal', async () => {
  const budgetBytes = 1_000
  const failures: unknown[] = []
  const fail = () => {
    throw new Error('no such row')
  }
  const memory: PrefixMemory = { tokenBytes: 4, copyOut: fail, copyIn: fail }
  const cache = new PrefixCache({ memory, budgetBytes, base: 'model', fatal: (error) => failures.push(error) })
  cache.restore(id(1), cache.keys(owner, blocks(1)), 17)
  cache.computed(id(1), 17)
  await turns()
  expect(failures).toHaveLength(1)
})
