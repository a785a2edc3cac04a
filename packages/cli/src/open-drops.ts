/** The drop folder of a gateway: its queue in Redis where that is configured, otherwise in this process. */
import { hash } from 'node:crypto'
import type { ObjectStore } from '@quiver/cache/store'
import {
  type Catalogue,
  createDropPublisher,
  type DropAdmin,
  type DropPublisher,
  keysOfEvent,
  LocalJobQueue,
  openRedisJobQueue,
  placeOf,
  type RedisConnection,
  type TimerClock,
  type WorkerSource,
} from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import type { Config } from './option-schema.ts'

export interface OpenDrops extends DropPublisher {
  /** What administration can ask of it. */
  readonly admin: DropAdmin
}

export async function openDrops(
  config: Pick<Config, 'store' | 'dropIntervalMs'>,
  deps: {
    readonly store: ObjectStore
    readonly catalogue: Catalogue
    readonly redis: RedisConnection | undefined
    readonly workers: Pick<WorkerSource, 'info' | 'infoOf' | 'order'>
    readonly clock: TimerClock
    readonly log: Logger
    readonly random: () => number
  },
): Promise<OpenDrops> {
  const { redis, workers, clock, log, random } = deps
  const now = () => new Date()
  const scope = hash('sha256', config.store, 'hex').slice(0, 12)
  const inRedis = redis === undefined ? undefined : await openRedisJobQueue({ redis, scope, clock, now, log })
  const drops = createDropPublisher({
    ...deps,
    queue: inRedis ?? new LocalJobQueue({ clock, now, random, log }),
    address: config.store,
    now,
    intervalMs: config.dropIntervalMs,
    bases(name) {
      const info = name === undefined ? workers.info : workers.infoOf(name)
      return info === undefined ? undefined : { layout: info.layout, maxRank: info.limits.maxRank }
    },
  })
  const place = placeOf(config.store)
  return {
    ...drops,
    admin: {
      notice: (event) => drops.notice(keysOfEvent(event, place)),
      ...(inRedis === undefined ? {} : { queue: () => inRedis.queue }),
    },
  }
}
