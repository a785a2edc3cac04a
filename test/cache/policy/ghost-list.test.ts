import { describe, expect, it } from 'vitest'
import { GhostList } from '../../../packages/cache/src/policy/ghost-list.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { digestFor } from '../../support/packed-adapters.ts'

const LATELY_MS = 600_000

function prepared() {
  const clock = new ManualClock()
  const ghosts = new GhostList(clock)
  return {
    clock,
    ghosts,
    evict: (...names: string[]) => names.forEach((name) => void ghosts.evicted(digestFor(name))),
    load: (...names: string[]) => names.forEach((name) => void ghosts.loaded(digestFor(name))),
  }
}

describe('the ghost list', () => {
  it('asks for as many slots more as would have kept who came back', () => {
    const { ghosts, evict, load } = prepared()
    expect(ghosts.slotsMissing()).toBe(0)
    evict('a', 'b', 'c')
    load('c')
    expect(ghosts.slotsMissing()).toBe(1)
    load('a')
    expect(ghosts.slotsMissing()).toBe(2)
  })

  it('asks for nothing on behalf of those who never come back', () => {
    const { ghosts, evict, load } = prepared()
    evict(...Array.from({ length: 1000 }, (_, index) => `scanned-${index}`))
    load('new')
    expect(ghosts.slotsMissing()).toBe(0)
  })

  it('forgets returns after ten minutes, and ghosts that have been gone for longer', () => {
    const { ghosts, clock, evict, load } = prepared()
    evict('a', 'b')
    load('a')
    clock.advance(LATELY_MS)
    expect(ghosts.slotsMissing()).toBe(2)
    clock.advance(1)
    expect(ghosts.slotsMissing()).toBe(0)
    load('b')
    expect(ghosts.slotsMissing()).toBe(0)
  })

  it('falls back to the largest return that is still of late', () => {
    const { ghosts, clock, evict, load } = prepared()
    evict('a', 'b', 'c')
    load('a')
    clock.advance(LATELY_MS / 2)
    evict('d', 'e')
    load('d')
    expect(ghosts.slotsMissing()).toBe(3)
    clock.advance(LATELY_MS / 2 + 1)
    expect(ghosts.slotsMissing()).toBe(2)
  })
})
