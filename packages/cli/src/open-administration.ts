/** What the admin routes work on, wired from the settings. */

import { randomUUID } from 'node:crypto'
import { type AdapterSource, fetchSource } from '@quiver/cache/origin'
import { type ObjectStore, openObjectStore } from '@quiver/cache/store'
import {
  AdapterRegistrar,
  type AdminDeps,
  type Catalogue,
  type DropAdmin,
  type JobList,
  noJobs,
  PinKeeper,
  type TimerClock,
  type Wishes,
  type WorkerSource,
} from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import { nodeTimers } from '@quiver/worker'
import { s3Settings } from './object-store.ts'
import type { Config } from './option-schema.ts'
import { parseStartAdapter } from './start-adapter.ts'
import { registerStartAdapters } from './start-adapters.ts'

/** How long a start waits for the adapters that it was told to register; they go on arriving after it. */
const START_PATIENCE_MS = 60_000

export interface Administration {
  readonly admin: AdminDeps
  /**
   * Registers what the settings name and has it pinned, and from then on keeps workers in step with the catalogue's pins. To be called once
   * a worker is there.
   * @param tell is given a line for a person about each adapter that could not be had
   */
  start(tell: (line: string) => void): Promise<void>
  close(): void
}

export interface AdministrationDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  readonly workers: WorkerSource
  readonly clock: TimerClock
  readonly log: Logger
  readonly now: () => Date
  readonly cwd: string
  /** Absent: there is no drop folder. */
  readonly jobs?: JobList
  readonly drops?: DropAdmin
}

export function openAdministration(config: Config, deps: AdministrationDeps): Administration {
  const { store, catalogue, workers, clock, log, now, jobs = noJobs, drops } = deps
  const sources = {
    clock,
    store,
    remote: {
      hub: {
        ...(config.hubEndpoint === '' ? {} : { endpoint: config.hubEndpoint }),
        ...(config.hubToken === '' ? {} : { token: config.hubToken }),
      },
      buckets: {
        allowed: config.s3Buckets,
        open: (bucket: string) =>
          openObjectStore(
            `s3://${bucket}`,
            { s3: s3Settings(config) },
            { clock, log, timers: nodeTimers, random: Math.random, uniqueId: randomUUID },
          ),
      },
      fetch,
      timers: nodeTimers,
    },
  }
  const registrarFor = (localRoots: readonly string[]) =>
    new AdapterRegistrar({
      ...{ store, catalogue, workers, now },
      fetchSource: (source, limits, signal) => fetchSource(source, { ...sources, limits, localRoots }, signal),
    })
  const registrar = registrarFor(config.localRoots)
  const pins = new PinKeeper({ catalogue, workers, clock, log })
  const closing = new AbortController()
  const registerNamed = async (source: AdapterSource, wishes: Wishes, signal: AbortSignal) =>
    await registrarFor(source.type === 'local' ? [source.path] : config.localRoots).register(source, wishes, signal)
  const registerAll = async (tell: (line: string) => void) => {
    const adapters = [...config.loraAdapters, ...config.preloadedAdapters].flatMap((text) => parseStartAdapter(text) ?? [])
    const more = { catalogue, now, cwd: deps.cwd, registerNamed }
    for (const line of await registerStartAdapters(adapters, config.adapterSource, more, closing.signal)) tell(line)
    await pins.keep()
  }
  return {
    admin: { catalogue, store, registrar, pins, jobs, drops },
    async start(tell) {
      pins.start()
      let stop = () => {}
      const patience = new Promise<void>((resolve) => {
        stop = clock.after(START_PATIENCE_MS, resolve)
      })
      await Promise.race([registerAll(tell), patience])
      stop()
    },
    close() {
      closing.abort()
      pins.close()
    },
  }
}
