import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { cgroupMemory, MemoryPressure, type MemoryUse, ramLimit } from '../../packages/worker/src/memory-pressure.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const turn = (): Promise<void> => new Promise((done) => setImmediate(done))

describe('what the RAM tier may take', () => {
  it.each([
    ['its budget, while there is room', { usedBytes: 100, maxBytes: 1000 }, { bytes: 50, budgetBytes: 200 }, 200],
    ['what it takes and what is free beyond a tenth', { usedBytes: 800, maxBytes: 1000 }, { bytes: 50, budgetBytes: 200 }, 150],
    ['less than it takes, when the tenth is drawn on', { usedBytes: 930, maxBytes: 1000 }, { bytes: 50, budgetBytes: 200 }, 20],
    ['nothing, when everything is gone', { usedBytes: 1000, maxBytes: 1000 }, { bytes: 50, budgetBytes: 200 }, 0],
  ])('is %s', (_, use, tier, expected) => {
    expect(ramLimit(use, tier)).toBe(expected)
  })
})

describe('L02: under memory pressure', () => {
  function watched() {
    const clock = new ManualClock()
    const state = { use: undefined as MemoryUse | undefined, bytes: 100, limits: [] as number[], logged: 0 }
    const pressure = new MemoryPressure({
      read: async () => state.use,
      timers: clock,
      log: () => {
        state.logged += 1
      },
      budgetBytes: 200,
      tierBytes: () => state.bytes,
      limit: (bytes) => state.limits.push(bytes),
    })
    const second = async (): Promise<void> => {
      clock.advance(1000)
      await turn()
    }
    return { clock, state, pressure, second }
  }

  it('the RAM tier shrinks, is left time to give the memory back, and grows again', async () => {
    const { state, pressure, second } = watched()
    await second()
    expect(state.limits).toEqual([])
    state.use = { usedBytes: 960, maxBytes: 1000 }
    await second()
    expect([state.limits, state.logged]).toEqual([[40], 1])
    state.bytes = 40
    for (let i = 0; i < 9; i += 1) await second()
    expect(state.limits).toEqual([40])
    await second()
    expect(state.limits).toEqual([40, 0])
    state.use = { usedBytes: 500, maxBytes: 1000 }
    await second()
    expect([state.limits, state.logged]).toEqual([[40, 0, 200], 2])
    pressure.close()
  })

  it('nothing is looked at any more once it is closed', async () => {
    const { clock, pressure, second } = watched()
    await second()
    pressure.close()
    expect(clock.pending).toBe(0)
  })
})

describe('a control group', () => {
  it('is read from its files, without the cache that can be dropped', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'memory.max'), '1000000\n')
    await writeFile(join(folder, 'memory.current'), '600000\n')
    await writeFile(join(folder, 'memory.stat'), 'anon 300000\ninactive_file 200000\nactive_file 1\n')
    expect(await cgroupMemory(folder)()).toEqual({ maxBytes: 1_000_000, usedBytes: 400_000 })
    await writeFile(join(folder, 'memory.max'), 'max\n')
    expect(await cgroupMemory(folder)()).toBeUndefined()
    await rm(join(folder, 'memory.max'))
    expect(await cgroupMemory(folder)()).toBeUndefined()
  })
})
