/** A process that does for the drop folder what a gateway does, with a base model that is only said to be there. */
import { randomUUID } from 'node:crypto'
import { openObjectStore } from '@quiver/cache/store'
import { systemClock } from '@quiver/gateway'
import type { WorkerInfo } from '@quiver/protocol'
import { nodeTimers } from '@quiver/worker'
import { openCatalogue } from '../../packages/cli/src/open-catalogue.ts'
import { openDrops } from '../../packages/cli/src/open-drops.ts'
import { tinyLayout } from './adapter-files.ts'
import { scriptedInfo } from './scripted-worker.ts'

const { STORE = '', ENDPOINT = '', REDIS = '', INTERVAL_MS = '100' } = process.env
const clock = systemClock()
const log = (...line: readonly unknown[]) => console.log(JSON.stringify(line))
const store = await openObjectStore(
  STORE,
  { s3: { endpoint: ENDPOINT } },
  { clock, timers: nodeTimers, random: Math.random, uniqueId: randomUUID },
)
const config = { store: STORE, redis: REDIS, dropIntervalMs: Number(INTERVAL_MS) }
const opened = await openCatalogue(config, { store, clock, log, random: Math.random })
await opened.start()
const { catalogue, redis } = opened
const info: WorkerInfo = { ...scriptedInfo, layout: tinyLayout, limits: { ...scriptedInfo.limits, maxRank: 8 } }
const drops = await openDrops(config, {
  ...{ store, catalogue, redis, clock, log, random: Math.random },
  workers: { info, infoOf: () => info, order: async () => [] },
})
drops.start()
console.log('started')
