import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { Quarantine } from '../../packages/cache/src/quarantine.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { digestFor } from '../support/packed-adapters.ts'

const a = digestFor('a')
const invalid = new ServingError('adapter_invalid', 'rank 128 exceeds 64')
const down = new ServingError('source_unavailable', 'the store does not answer')
const QUARANTINE_MS = 15 * 60_000

function prepared() {
  const clock = new ManualClock()
  return { clock, quarantine: new Quarantine(clock) }
}

describe('the quarantine', () => {
  it('lets an adapter rest for a second after one fault of its own, and for a quarter of an hour after two', () => {
    const { clock, quarantine } = prepared()
    quarantine.failed(a, invalid)
    expect([quarantine.get(a)?.untilMs, quarantine.size]).toEqual([1000, 0])
    clock.advance(1000)
    expect(quarantine.get(a)).toBeUndefined()
    quarantine.failed(a, invalid)
    expect(quarantine.get(a)).toEqual({ cause: invalid, untilMs: 1000 + QUARANTINE_MS })
    expect([...quarantine.all()]).toEqual([[a, { cause: invalid, untilMs: 1000 + QUARANTINE_MS }]])
    clock.advance(QUARANTINE_MS)
    expect([quarantine.get(a), quarantine.size]).toEqual([undefined, 0])
  })

  it('holds it again at the next failure after its time', () => {
    const { clock, quarantine } = prepared()
    for (let i = 0; i < 2; i += 1) quarantine.failed(a, invalid)
    clock.advance(QUARANTINE_MS)
    quarantine.failed(a, invalid)
    expect(quarantine.get(a)?.untilMs).toBe(2 * QUARANTINE_MS)
  })

  it('never holds an adapter for the failures of its source, however many', () => {
    const { clock, quarantine } = prepared()
    for (let i = 0; i < 20; i += 1) {
      quarantine.failed(a, down)
      clock.advance(30_000)
      expect([quarantine.get(a), quarantine.size]).toEqual([undefined, 0])
    }
  })

  it('counts faults in a row: a success between them begins anew', () => {
    const { quarantine } = prepared()
    quarantine.failed(a, invalid)
    quarantine.succeeded(a)
    quarantine.failed(a, invalid)
    expect(quarantine.size).toBe(0)
  })

  it('is lifted with all that led to it', () => {
    const { quarantine } = prepared()
    for (let i = 0; i < 2; i += 1) quarantine.failed(a, invalid)
    quarantine.lift(a)
    expect([quarantine.get(a), quarantine.size]).toEqual([undefined, 0])
    quarantine.failed(a, invalid)
    expect(quarantine.get(a)?.untilMs).toBe(1000)
  })
})
