import { adapterRefSchema, limits, type MergedRef } from '@quiver/protocol'
import { afterEach, describe, expect, it, test } from 'vitest'
import { BatchHarness } from '../support/batch-harness.ts'
import { fakeDigest } from '../support/fake-adapter-cache.ts'

const merged = (...names: readonly string[]): MergedRef => ({
  kind: 'merged',
  members: names.map((name) => ({ ref: { kind: 'registered', name, digest: fakeDigest(name) }, weight: 0.5 })),
  strategy: 'dare_ties',
  density: 0.5,
  sign: 'total',
})

describe('a run with merged adapters', () => {
  let harness = new BatchHarness()
  afterEach(async () => {
    await harness.loop.close()
    expect(harness.engine.violations).toEqual([])
    expect(harness.cache.leaseCount).toBe(0)
    expect(harness.loop.state().leases).toEqual({ adapters: 0, slots: 0 })
  })

  it('takes one lease and one slot, and is told the derived digest', async () => {
    harness = new BatchHarness({ neverEnds: true })
    const both = harness.run({ inputs: 'hello', maxNewTokens: 3, adapter: merged('a', 'b') })
    const alone = harness.run({ inputs: 'hello', maxNewTokens: 3, on: 'a' })
    await Promise.all([both.end, alone.end])
    expect(both.events[0]).toMatchObject({ type: 'accepted', adapterDigest: fakeDigest('a,b') })
    expect(alone.events[0]).toMatchObject({ adapterDigest: fakeDigest('a') })
    expect(both.tokens).not.toEqual(alone.tokens)
  })

  it('ends with the error of the merge', async () => {
    harness = new BatchHarness()
    harness.cache.behave('a,b', { fails: true })
    const run = harness.run({ inputs: 'hello', adapter: merged('a', 'b') })
    expect(await run.end).toMatchObject({ type: 'error', code: 'adapter_invalid' })
  })
})

describe('a merged reference on the wire', () => {
  test('is taken as it was sent', () => {
    const ref = merged('a', 'b')
    expect(adapterRefSchema.parse(JSON.parse(JSON.stringify(ref)))).toEqual(ref)
  })

  const many = merged(...Array(limits.mergedAdapters + 1).fill('a'))
  test.each<[string, object]>([
    ['no members', { ...many, members: [] }],
    ['too many members', many],
    ['the base model as a member', { ...merged('a'), members: [{ ref: { kind: 'base' }, weight: 1 }] }],
    ['a merge as a member', { ...merged('a'), members: [{ ref: merged('b'), weight: 1 }] }],
    ['no weight', { ...merged('a'), members: [{ ref: { kind: 'local', path: 'x' } }] }],
    ['density 0', { ...merged('a'), density: 0 }],
    ['a density above 1', { ...merged('a'), density: 1.01 }],
    ['an unknown strategy', { ...merged('a'), strategy: 'cat' }],
    ['an unknown sign', { ...merged('a'), sign: 'mean' }],
  ])('is refused with %s', (_, ref) => {
    expect(adapterRefSchema.safeParse(ref).success).toBe(false)
  })
})
