/** The catalogue of a gateway, with what keeps it in step with the store and with other gateways. */
import { hash } from 'node:crypto'
import type { ObjectStore } from '@quiver/cache/store'
import {
  Catalogue,
  CatalogueSync,
  collectGarbage,
  JoinedChangeFeed,
  openRedis,
  RedisChangeFeed,
  type RedisConnection,
  RedisHotCopy,
  SiblingChangeFeed,
  type Siblings,
  type TimerClock,
} from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import type { Config } from './option-schema.ts'

/** Between two looks at the store for what other gateways have changed; with Redis they say so at once. */
const REFRESH_MS = 10_000
/** Between two looks for what nobody refers to any more. */
const COLLECT_MS = 3_600_000
/** How long what was retired can be restored. */
const GRACE_MS = 86_400_000
/** How long the start waits for Redis; without it, it reads the store. */
const REDIS_PATIENCE_MS = 1000

export interface OpenCatalogue {
  readonly catalogue: Catalogue
  /** Absent without QUIVER_REDIS. */
  readonly redis?: RedisConnection
  /** Milliseconds for which the store could not be read; 0 while it can. */
  readonly staleMs: () => number
  /** Reads it, and from then on follows what others change. @throws ServingError `source_unavailable` */
  start(): Promise<void>
  close(): Promise<void>
}

export async function openCatalogue(
  config: Pick<Config, 'store' | 'redis'>,
  deps: {
    readonly store: ObjectStore
    readonly clock: TimerClock
    readonly log: Logger
    readonly random: () => number
    /** The other processes of this gateway; absent: there is this one alone. */
    readonly siblings?: Siblings | undefined
  },
): Promise<OpenCatalogue> {
  const { store, clock, log, random, siblings } = deps
  const now = () => new Date()
  const redis = config.redis === '' ? undefined : await openRedis(config.redis, { log, random, clock })
  const scope = hash('sha256', config.store, 'hex').slice(0, 12)
  // Siblings tell each other also where there is Redis: it may be lost, and waits for nobody to have looked.
  const feeds = [
    ...(siblings === undefined ? [] : [new SiblingChangeFeed(siblings)]),
    ...(redis === undefined ? [] : [new RedisChangeFeed({ redis, scope })]),
  ]
  const shared = {
    ...(redis === undefined ? {} : { hotCopy: new RedisHotCopy({ redis, scope, log }) }),
    ...(feeds.length === 0 ? {} : { feed: new JoinedChangeFeed(feeds) }),
  }
  const catalogue = new Catalogue(store, { log, ...shared })
  const sync = new CatalogueSync({ catalogue, clock, random, log, refreshMs: REFRESH_MS, feed: shared.feed })
  let stopCollecting = () => {}
  const collectLater = () => {
    stopCollecting = clock.after(COLLECT_MS * (0.75 + random() / 2), () => void collect().finally(collectLater))
  }
  const collect = async () => {
    try {
      const { versions, deleted } = await collectGarbage({ store, catalogue, now, log, graceMs: GRACE_MS })
      if (versions + deleted > 0) log('info', 'retired adapters were deleted from the store', { versions, adapters: deleted })
    } catch (error) {
      log('warn', 'retired adapters could not be deleted now', { reason: error instanceof Error ? error.message : String(error) })
    }
  }
  return {
    catalogue,
    ...(redis === undefined ? {} : { redis }),
    staleMs: () => sync.staleMs(),
    async start() {
      await redis?.isReadyWithin(REDIS_PATIENCE_MS)
      try {
        await catalogue.load()
      } catch (error) {
        await redis?.close()
        throw error
      }
      sync.start()
      collectLater()
    },
    async close() {
      stopCollecting()
      sync.close()
      await redis?.close()
    },
  }
}
