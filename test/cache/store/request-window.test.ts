import { describe, expect, it } from 'vitest'
import { type LeaveWindow, RequestWindow, type WindowOutcome } from '../../../packages/cache/src/store/s3/request-window.ts'
import { ManualClock } from '../../support/manual-clock.ts'

/** A store that is always asked for more than it may be asked for at once. */
function busy(): {
  window: RequestWindow
  clock: ManualClock
  underWay: LeaveWindow[]
  end(outcome: WindowOutcome): Promise<void>
} {
  const clock = new ManualClock()
  const window = new RequestWindow(clock)
  const underWay: LeaveWindow[] = []
  for (let request = 0; request < 2_000; request++) {
    void window.enter(undefined).then((leave) => leave && underWay.push(leave))
  }
  const end = async (outcome: WindowOutcome) => {
    underWay.shift()?.(outcome)
    await turn()
  }
  return { window, clock, underWay, end }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('requests of one store', () => {
  it('are few at first, more with every one that is served, and never more than 32', async () => {
    const { underWay, end } = busy()
    await turn()
    const seen = [underWay.length]
    for (let served = 0; served < 100; served++) {
      await end('served')
      seen.push(underWay.length)
    }
    expect([seen[0], seen[1], Math.max(...seen)]).toEqual([8, 9, 32])
  })

  it('G14 are halved once when the store wants fewer, however many of them it refuses', async () => {
    const { window, underWay, end } = busy()
    await turn()
    for (let refused = 0; refused < 8; refused++) await end('refused')
    expect([window.places, underWay.length]).toEqual([4, 4])
    for (let refused = 0; refused < 4; refused++) await end('refused')
    expect([window.places, underWay.length]).toEqual([2, 2])
    for (let refused = 0; refused < 20; refused++) await end('refused')
    expect([window.places, underWay.length]).toEqual([1, 1])
  })

  it('G14 come back by one a second after that, whatever is served meanwhile', async () => {
    const { window, clock, end } = busy()
    await turn()
    await end('refused')
    for (let served = 0; served < 100; served++) await end('served')
    expect(window.places).toBe(4)
    for (let second = 1; second <= 3; second++) {
      clock.advance(1_000)
      for (let served = 0; served < 10; served++) await end('served')
      expect(window.places).toBe(4 + second)
    }
  })

  it('that fail for another reason change nothing', async () => {
    const { window, end } = busy()
    await turn()
    for (let failed = 0; failed < 50; failed++) await end('failed')
    expect(window.places).toBe(8)
  })

  it('which nobody waits for any more give their turn to the next, and a place is given back once', async () => {
    const window = new RequestWindow(new ManualClock())
    const first = await Promise.all(Array.from({ length: 8 }, () => window.enter(undefined)))
    const leaving = new AbortController()
    const [gone, next] = [window.enter(leaving.signal), window.enter(undefined)]
    leaving.abort()
    expect(await gone).toBeUndefined()
    expect(await window.enter(leaving.signal)).toBeUndefined()
    first[0]?.('failed')
    first[0]?.('failed')
    expect(await next).toBeDefined()
    let hasEntered = false
    void window.enter(undefined).then(() => {
      hasEntered = true
    })
    await turn()
    expect(hasEntered).toBe(false)
  })
})
