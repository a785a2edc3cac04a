/** The drop folder of a gateway: its queue in Redis where that is configured, otherwise in this process. */
import { hash } from 'node:crypto'
import type { ObjectStore } from '@quiver/cache/store'
import {
  type Catalogue,
  createDropPublisher,
  type DropAdmin,
  type DropPublisher,
  type JobView,
  keysOfEvent,
  LocalJobQueue,
  openRedisJobQueue,
  placeOf,
  type RedisConnection,
  type Siblings,
  type TimerClock,
  type WorkerSource,
} from '@quiver/gateway'
import { type Logger, ServingError } from '@quiver/protocol'
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
    /** The other processes of this gateway; absent: there is this one alone. */
    readonly siblings?: Siblings | undefined
  },
): Promise<OpenDrops> {
  const { redis, workers, clock, log, random, siblings } = deps
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
  // Without Redis the queue is one process's own; its siblings ask it.
  if (siblings !== undefined && inRedis === undefined) {
    if (!siblings.isFirst) return dropsOfFirst(siblings, (event) => keysOfEvent(event, place))
    siblings.answer(JOBS, (limit) => drops.jobs.recent(Number(limit)))
    siblings.answer(NOTICE, (keys) => drops.notice(Array.isArray(keys) ? keys.map(String) : []))
  }
  return {
    ...drops,
    admin: {
      notice: (event) => drops.notice(keysOfEvent(event, place)),
      ...(inRedis === undefined ? {} : { queue: () => inRedis.queue }),
    },
  }
}

const JOBS = 'jobs'
const NOTICE = 'notice'

/** The drop folder as the first of several processes looks after it. */
function dropsOfFirst(siblings: Siblings, keysOf: (event: unknown) => readonly string[]): OpenDrops {
  const notice = async (keys: readonly string[]) => {
    const [names] = await siblings.ask(NOTICE, keys, 'first')
    return Array.isArray(names) ? names.map(String) : []
  }
  const jobs = {
    async recent(limit: number) {
      const [found] = await siblings.ask(JOBS, limit, 'first')
      if (Array.isArray(found)) return found as readonly JobView[]
      throw new ServingError('source_unavailable', 'the process that publishes drops does not answer: try again in a moment')
    },
  }
  return { jobs, start: () => {}, notice: () => [], close: async () => {}, admin: { notice: (event) => notice(keysOf(event)) } }
}
