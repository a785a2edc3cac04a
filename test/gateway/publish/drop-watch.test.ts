import { setImmediate as nextTurn } from 'node:timers/promises'
import { ServingError } from '@quiver/protocol'
import { beforeEach, describe, expect, test } from 'vitest'
import { dropId, readDrop } from '../../../packages/gateway/src/publish/drop-folder.ts'
import type { DropWork } from '../../../packages/gateway/src/publish/drop-job.ts'
import { DropWatch } from '../../../packages/gateway/src/publish/drop-watch.ts'
import { putDrop, soundDrop } from '../../support/drops.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'

let store: MemoryStore
let clock: ManualClock
let added: DropWork[]
let log: string[]
let lists: string[]
let isDown: boolean
beforeEach(() => {
  ;[store, clock, added, log, lists, isDown] = [new MemoryStore(), new ManualClock(), [], [], [], false]
})

function watch(intervalMs = 5000): DropWatch {
  const seen = new HookedStore(store, {
    async list(prefix) {
      lists.push(prefix)
      if (isDown) throw new ServingError('source_unavailable', 'the store is away')
    },
  })
  const queue = { add: async (work: DropWork) => void added.push(work) }
  return new DropWatch({ store: seen, queue, clock, intervalMs, random: () => 0.5, log: (_level, text) => log.push(text) })
}

/** Lets what waits for the store go on. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await nextTurn()
}
async function pass(ms: number): Promise<void> {
  clock.advance(ms)
  await settled()
}
const names = () => added.map(({ name }) => name)

describe('looking at the folder', () => {
  test('takes a drop that is the same in two looks, and a partial or a changing one not', async () => {
    const { 'adapter_config.json': config } = soundDrop(1)
    await putDrop(store, 'whole/a', soundDrop(1))
    await putDrop(store, 'partial', { 'adapter_config.json': config })
    await putDrop(store, 'changing', soundDrop(1))
    const watching = watch()
    watching.start()
    await settled()
    expect(added).toEqual([])
    await putDrop(store, 'changing', soundDrop(2))
    await pass(1000)
    expect(added).toEqual([{ id: dropId(await readDrop(store, 'whole/a')), name: 'whole/a' }])
    await pass(5000)
    expect(new Set(names())).toEqual(new Set(['whole/a', 'changing']))
    expect(new Set(lists)).toEqual(new Set(['drop/']))
    watching.close()
    await pass(60_000)
    expect(lists).toHaveLength(3)
  })

  test('takes one with _READY at once', async () => {
    await putDrop(store, 'a', { ...soundDrop(1), _READY: new Uint8Array() })
    await watch().look()
    expect(names()).toEqual(['a'])
  })

  test('leaves a rejected drop alone until its files change, or its refusal is removed', async () => {
    await putDrop(store, 'a', soundDrop(1))
    const job = dropId(await readDrop(store, 'a'))
    const note = { job, name: 'a', files: {}, at: '2026-01-02T03:04:05.000Z', code: 'adapter_invalid', reasons: ['x'] }
    await putDrop(store, 'a', { '_REJECTED.json': new TextEncoder().encode(JSON.stringify(note)) })
    const watching = watch()
    const look = async () => {
      clock.advance(1000)
      await watching.look()
    }
    for (let looks = 0; looks < 4; looks++) await look()
    expect(added).toEqual([])
    // Read once, however often it is looked at.
    expect(store.gets).toEqual(['drop/a/_REJECTED.json'])
    await putDrop(store, 'a', soundDrop(2))
    await look()
    await look()
    expect(names()).toEqual(['a'])
    await putDrop(store, 'a', soundDrop(1))
    await look()
    await look()
    expect(names()).toEqual(['a'])
    await store.delete('drop/a/_REJECTED.json')
    await look()
    expect(names()).toEqual(['a', 'a'])
  })

  test('goes on with a drop that somebody was moving aside', async () => {
    await putDrop(store, 'a', { 'adapter_model.safetensors': soundDrop(1)['adapter_model.safetensors'] })
    const note = { job: 'drop-1', name: 'a', files: {}, at: '2026-01-02T03:04:05.000Z', version: 1, digest: 'a'.repeat(64) }
    const more = { rank: 2, modules: ['q_proj'], bytes: 10, aliases: ['latest'] }
    await putDrop(store, 'a', { '_CLEARING.json': new TextEncoder().encode(JSON.stringify({ ...note, ...more })) })
    await watch().look()
    expect(added).toEqual([{ id: 'drop-1', name: 'a' }])
  })

  test('happens at the start and once more where it is switched off', async () => {
    await putDrop(store, 'a', soundDrop(1))
    watch(0).start()
    await settled()
    await pass(1000)
    await pass(3_600_000)
    expect([names(), lists.length]).toEqual([['a'], 2])
  })

  test('goes on after the store was away, which is said once', async () => {
    isDown = true
    const watching = watch()
    watching.start()
    for (let looks = 0; looks < 5; looks++) await pass(6000)
    expect(log).toEqual(['the drop folder cannot be looked at now: the store is away'])
    isDown = false
    await putDrop(store, 'a', soundDrop(1))
    await pass(6000)
    await pass(6000)
    expect([log.at(-1), names()[0]]).toEqual(['the drop folder is looked at again', 'a'])
    watching.close()
  })
})

describe('an event', () => {
  test('has its folder looked at, and again when it has been quiet for a while', async () => {
    const watching = watch()
    const { 'adapter_config.json': config, 'adapter_model.safetensors': weights } = soundDrop(1)
    await putDrop(store, 'acme/a', { 'adapter_config.json': config })
    expect(watching.notice(['drop/acme/a/adapter_config.json', 'drop/acme/a/README.md'])).toEqual(['acme/a'])
    await settled()
    await putDrop(store, 'acme/a', { 'adapter_model.safetensors': weights })
    watching.notice(['drop/acme/a/adapter_model.safetensors'])
    await settled()
    await pass(300)
    await putDrop(store, 'acme/a', { 'quiver.json': new TextEncoder().encode('{}') })
    watching.notice(['drop/acme/a/quiver.json'])
    await settled()
    await pass(300)
    expect(added).toEqual([])
    await pass(100)
    expect(added).toEqual([{ id: dropId(await readDrop(store, 'acme/a')), name: 'acme/a' }])
    await pass(10_000)
    expect([names(), new Set(lists)]).toEqual([['acme/a'], new Set(['drop/acme/a/'])])
  })

  test('of a folder below another does not stand for the other', async () => {
    await putDrop(store, 'a', { ...soundDrop(1), _READY: new Uint8Array() })
    await putDrop(store, 'a/b', { ...soundDrop(2), _READY: new Uint8Array() })
    watch().notice(['drop/a/b/_READY'])
    await settled()
    expect(names()).toEqual(['a/b'])
  })
})
