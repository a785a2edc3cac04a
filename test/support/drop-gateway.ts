/** A real gateway with a drop folder, in front of a scripted worker whose base model is the tiny one. */

import type { ObjectStore } from '@quiver/cache/store'
import { AdapterRegistrar, Catalogue, PinKeeper, systemClock } from '@quiver/gateway'
import type { WorkerInfo } from '@quiver/protocol'
import { type OpenDrops, openDrops } from '../../packages/cli/src/open-drops.ts'
import { tinyLayout } from './adapter-files.ts'
import { type GatewayUnderTest, startGateway } from './gateway-under-test.ts'
import { scriptedInfo } from './scripted-worker.ts'

export interface DropGateway extends GatewayUnderTest {
  readonly catalogue: Catalogue
  readonly drops: OpenDrops
}

/** It looks at its folder by itself only once, when it starts. @param address of the store */
export async function startDropGateway(store: ObjectStore, address: string): Promise<DropGateway> {
  const catalogue = new Catalogue(store)
  await catalogue.load()
  const clock = systemClock()
  const log = () => {}
  const info: WorkerInfo = { ...scriptedInfo, layout: tinyLayout, limits: { ...scriptedInfo.limits, maxRank: 8 } }
  const workers = {
    info,
    infoOf: () => info,
    bases: [info.model.id],
    arrivals: 0,
    adapters: async () => [],
    order: async () => [],
  }
  const drops = await openDrops(
    { store: address, dropIntervalMs: 0 },
    { store, catalogue, redis: undefined, workers, clock, log, random: Math.random },
  )
  const registrar = new AdapterRegistrar({
    ...{ store, catalogue, workers, now: () => new Date() },
    fetchSource: () => Promise.reject(new Error('nothing is registered here')),
  })
  const pins = new PinKeeper({ catalogue, workers, clock, log })
  const under = await startGateway(
    {},
    { catalogue, admin: { catalogue, store, registrar, pins, jobs: drops.jobs, drops: drops.admin } },
  )
  drops.start()
  return {
    ...under,
    ...{ catalogue, drops },
    async close() {
      await drops.close()
      await under.close()
    },
  }
}
