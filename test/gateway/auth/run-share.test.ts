import { describe, expect, it } from 'vitest'
import { makeKey } from '../../../packages/gateway/src/auth/api-key.ts'
import { runShare } from '../../../packages/gateway/src/auth/run-share.ts'

describe('the share of a run', () => {
  it('is what the key says, and a priority that the request names', () => {
    expect(runShare({}, {})).toEqual({})
    expect(runShare({ weight: 3 }, {})).toEqual({ weight: 3 })
    expect(runShare({ weight: 3 }, { 'x-priority': 'high' })).toEqual({ weight: 3, priority: 'high' })
    expect(runShare({}, { 'x-priority': 'low' })).toEqual({ priority: 'low' })
  })

  it("is never above the key's highest priority", () => {
    expect(runShare({ priority: 'normal' }, { 'x-priority': 'high' })).toEqual({ priority: 'normal' })
    expect(runShare({ priority: 'normal' }, { 'x-priority': 'low' })).toEqual({ priority: 'low' })
    expect(runShare({ priority: 'low' }, {})).toEqual({ priority: 'low' })
  })

  it('is refused with a priority that there is not', () => {
    expect(() => runShare({}, { 'x-priority': 'urgent' })).toThrow('`x-priority` must be one of low, normal, high')
  })

  it('has a weight within bounds', () => {
    const make = (weight: number) =>
      makeKey({ tenant: 'acme', rights: [], weight }, { drawBytes: (size) => Buffer.alloc(size), now: () => new Date(0) })
    expect(make(0.5).entry.weight).toBe(0.5)
    for (const weight of [0, -1, 101, Number.NaN])
      expect(() => make(weight)).toThrow('the weight must be a number from 0.01 to 100')
  })
})
