import type { SlotIndex } from '@quiver/protocol'
import { expect, test } from 'vitest'
import type { RemoteServer } from '../../../../packages/worker/src/engine/remote/remote-server.ts'
import { RemoteSlots } from '../../../../packages/worker/src/engine/remote/remote-slots.ts'
import { hollowAdapter } from '../../../support/packed-adapters.ts'
import { smollm2Layout } from '../../../support/smollm2-layout.ts'
import { temporaryFolder } from '../../../support/temporary-folder.ts'

/** A server that refuses a name that it has, as vLLM does. */
class NamesOnly implements Pick<RemoteServer, 'load' | 'unload'> {
  readonly names = new Set<string>()
  /** What the next load waits for. */
  hold: Promise<void> = Promise.resolve()

  async load(name: string): Promise<void> {
    const hold = this.hold
    this.hold = Promise.resolve()
    await hold
    if (this.names.has(name)) throw new Error(`${name} is loaded already`)
    this.names.add(name)
  }

  async unload(name: string): Promise<void> {
    this.names.delete(name)
  }
}

const slot = 0 as SlotIndex

test('an adapter whose reload came to its end after its slot was given away can be loaded again', async () => {
  const server = new NamesOnly()
  const folder = await temporaryFolder()
  const config = { slots: 1, layout: smollm2Layout, folder, folderAtServer: folder }
  const slots = await RemoteSlots.open(config, { server, log: () => {} }, [])
  const [first, second] = [hollowAdapter('first', 0), hollowAdapter('second', 0)]
  await slots.loadAdapter(slot, first)
  server.names.clear() // It was started anew.
  const held = Promise.withResolvers<void>()
  server.hold = held.promise
  const reload = slots.reload(slot, 0)
  await slots.loadAdapter(slot, second)
  held.resolve()
  await reload
  await slots.loadAdapter(slot, first)
  expect([...server.names]).toEqual([slots.occupant(slot).name])
})
