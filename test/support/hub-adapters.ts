/** A hub of adapters over temporary folders, and the origin under test in front of it. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { maxWeightsBytes } from '@quiver/cache/format'
import { HubOrigin } from '@quiver/cache/origin'
import { type AdapterOptions, buildAdapter, tinyLayout } from './adapter-files.ts'
import { type HubRepo, type HubServer, startHub } from './hub-server.ts'
import { ManualClock } from './manual-clock.ts'
import { SkippingTimers } from './skipping-timers.ts'
import { temporaryFolder } from './temporary-folder.ts'

export const firstCommit = 'a'.repeat(40)
export const secondCommit = 'b'.repeat(40)

export interface HubUnderTest {
  readonly hub: HubServer
  /** `acme/sql`; its refs may change while the hub runs. */
  readonly repo: HubRepo
  readonly folder: string
  readonly origin: HubOrigin
  readonly clock: ManualClock
  readonly timers: SkippingTimers
  /** Requests for the content of a file, by its name. */
  contentOf(name: string): number
}

/** A folder with a tiny adapter. */
export async function adapterFolder(options: AdapterOptions = {}): Promise<string> {
  const folder = await temporaryFolder()
  const { config, weights } = buildAdapter(options)
  await writeFile(join(folder, 'adapter_config.json'), config)
  await writeFile(join(folder, 'adapter_model.safetensors'), weights)
  return folder
}

/** `lfsBytes: 0` keeps every file as LFS, as hubs keep weights. */
export async function hubUnderTest(
  options: { repo?: Partial<HubRepo>; token?: string; adapter?: AdapterOptions; maxWeightsBytes?: number } = {},
): Promise<HubUnderTest> {
  const folder = await adapterFolder(options.adapter)
  const repo: HubRepo = { commits: { [firstCommit]: folder }, refs: { main: firstCommit }, lfsBytes: 1_000, ...options.repo }
  const hub = await startHub({ 'acme/sql': repo })
  const [clock, timers] = [new ManualClock(), new SkippingTimers()]
  const limits = { maxRank: 8, maxWeightsBytes: options.maxWeightsBytes ?? maxWeightsBytes(tinyLayout, 8) }
  const config = { endpoint: hub.endpoint, ...(options.token === undefined ? {} : { token: options.token }) }
  return {
    hub,
    repo,
    folder,
    clock,
    timers,
    origin: new HubOrigin(config, limits, { fetch, timers, clock }),
    contentOf: (name) => hub.requests.filter(({ path }) => path.includes('/resolve/') && path.endsWith(name)).length,
  }
}
