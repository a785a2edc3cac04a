import type { AdapterDigest } from '@quiver/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BLOCK_TOKENS, blockKeys } from '../../../packages/worker/src/prefix/block-keys.ts'
import { randomSeed } from '../../support/random-seed.ts'

const tokens = Array.from({ length: 5 * BLOCK_TOKENS }, (_, at) => at * 7)
const digest = 'a'.repeat(64) as AdapterDigest
const owner = { tenant: 'acme' }

test('names whole blocks only, and no more than asked for', () => {
  const lengths = [0, BLOCK_TOKENS - 1, BLOCK_TOKENS, 2 * BLOCK_TOKENS + 1].map(
    (length) => blockKeys('model', owner, tokens.slice(0, length), 9).length,
  )
  expect(lengths).toEqual([0, 0, 1, 2])
  expect(blockKeys('model', owner, tokens, 3)).toHaveLength(3)
})

test('shares no name between models, adapters, tenants and salts', () => {
  const sets = [
    blockKeys('model', owner, tokens, 9),
    blockKeys('model two', owner, tokens, 9),
    blockKeys('model', { tenant: 'acme', digest }, tokens, 9),
    blockKeys('model', { tenant: 'other' }, tokens, 9),
    blockKeys('model', { tenant: 'acme', salt: 's' }, tokens, 9),
    blockKeys('model', { tenant: 'acme', salt: digest }, tokens, 9),
    blockKeys('model', { tenant: 'acme"s' }, tokens, 9),
    blockKeys('model', { tenant: 'acme","s' }, tokens, 9),
  ]
  const names = sets.flat()
  expect(new Set(names).size).toBe(names.length)
})

test('two prompts share the names of the blocks up to the first token in which they differ', () => {
  const seed = randomSeed('block keys')
  fc.assert(
    fc.property(fc.nat(tokens.length - 1), (at) => {
      const other = tokens.with(at, 1_000_000)
      const [ours, theirs] = [blockKeys('model', owner, tokens, 9), blockKeys('model', owner, other, 9)]
      const shared = ours.filter((key, block) => key === theirs[block]).length
      expect(shared).toBe(Math.floor(at / BLOCK_TOKENS))
      expect(ours.slice(0, shared)).toEqual(theirs.slice(0, shared))
    }),
    { seed },
  )
})
