/** What every gateway consists of, whoever runs its workers. */
import { randomBytes, randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { WatchedStore } from '@quiver/cache/store'
import { createGateway, type Gateway, Keyring, type Siblings, type TimerClock, type WorkerSource } from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import manifest from '../package.json' with { type: 'json' }
import { isLoopback } from './loopback.ts'
import { openStore } from './object-store.ts'
import { type Administration, openAdministration } from './open-administration.ts'
import { type OpenCatalogue, openCatalogue } from './open-catalogue.ts'
import { type OpenDrops, openDrops } from './open-drops.ts'
import type { Config } from './option-schema.ts'

export interface GatewayParts {
  readonly gateway: Gateway
  readonly store: WatchedStore
  readonly opened: OpenCatalogue
  readonly administration: Administration
  /** To be started when a worker has said what adapters must fit. */
  readonly drops: OpenDrops
  readonly wantsKey: boolean
}

/**
 * Makes a gateway that has yet to be told to listen, and its catalogue, which has yet to be started.
 * @throws ServingError when its store or keys cannot be used, with what to change
 */
export async function openGateway(
  config: Config,
  deps: {
    readonly workers: WorkerSource
    readonly clock: TimerClock
    readonly log: Logger
    readonly stderr: NodeJS.WritableStream
    /** The other processes of this gateway; absent: there is this one alone. */
    readonly siblings?: Siblings | undefined
  },
): Promise<GatewayParts> {
  const { workers, clock, log, stderr, siblings } = deps
  for (const root of await missingFolders(config.localRoots)) {
    stderr.write(`QUIVER_LOCAL_ROOTS names ${root}, which is not a folder here: adapters below it are refused.\n`)
  }
  if (config.keys === '' && !isLoopback(config.host)) {
    stderr.write(
      `${config.host} can be reached from other machines and no API keys are set: whoever reaches the port may use it (--keys, docs/keys.md).\n`,
    )
  }
  const keys = config.keys === '' ? undefined : Keyring.open(config.keys, log)
  const store = await openStore(config, { clock, log })
  const opened = await openCatalogue(config, { store, clock, log, random: Math.random, siblings })
  const { catalogue, redis } = opened
  const now = () => new Date()
  const drops = await openDrops(config, { store, catalogue, redis, workers, clock, log, random: Math.random, siblings })
  const administration = openAdministration(config, {
    ...{ store, catalogue, workers, clock, log, now, cwd: process.cwd() },
    ...{ jobs: drops.jobs, drops: drops.admin },
  })
  const gateway = createGateway(
    { host: config.host, port: config.port, version: manifest.version, processMetrics: true, clientLimits: clientLimits(config) },
    {
      workers,
      catalogue,
      ...(keys === undefined ? {} : { keys }),
      ...(config.adminKey === '' ? {} : { adminKey: config.adminKey }),
      admin: administration.admin,
      ...(siblings === undefined ? {} : { siblings }),
      clock,
      now,
      log,
      newId: randomUUID,
      drawSeed: () => Number(randomBytes(8).readBigUInt64BE() >> 11n),
    },
  )
  return { gateway, store, opened, administration, drops, wantsKey: keys !== undefined }
}

function clientLimits(config: Config) {
  return {
    concurrentRequests: config.maxConcurrentRequests,
    bestOf: config.maxBestOf,
    stopSequences: config.maxStopSequences,
    adapterSource: config.adapterSource === 'pbase' ? 'store' : config.adapterSource,
  } as const
}

async function missingFolders(folders: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(
    folders.map((folder) =>
      stat(folder).then(
        (stats) => stats.isDirectory(),
        () => false,
      ),
    ),
  )
  return folders.filter((_, index) => found[index] !== true)
}
