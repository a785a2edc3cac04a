/** The gateway's object store, and what an operator is told when it cannot be used. */
import { randomUUID } from 'node:crypto'
import { openObjectStore, type WatchedStore } from '@quiver/cache/store'
import { type Clock, type Logger, ServingError } from '@quiver/protocol'
import { nodeTimers } from '@quiver/worker'
import type { Config } from './option-schema.ts'

type StoreConfig = Pick<Config, 'store' | 's3Endpoint' | 's3Region'>

/** Empty options are left to the AWS SDK. */
export function s3Settings({ s3Endpoint, s3Region }: StoreConfig): { endpoint?: string; region?: string } {
  return { ...(s3Endpoint === '' ? {} : { endpoint: s3Endpoint }), ...(s3Region === '' ? {} : { region: s3Region }) }
}

/** @throws ServingError that says what to change */
export async function openStore(
  config: StoreConfig,
  deps: { readonly clock: Clock; readonly log: Logger },
): Promise<WatchedStore> {
  const all = { ...deps, timers: nodeTimers, random: Math.random, uniqueId: randomUUID }
  return await orUnusable(config, () => openObjectStore(config.store, { s3: s3Settings(config) }, all))
}

/** Does something with the store that a start cannot do without. @throws ServingError that says where the store is and why it fails */
export async function orUnusable<T>({ store, s3Endpoint }: StoreConfig, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    if (!(thrown instanceof ServingError) || thrown.code !== 'source_unavailable') throw thrown
    const why = reasonOf(thrown)
    const message = store.startsWith('s3://')
      ? `the object store ${store}${s3Endpoint === '' ? '' : ` at ${s3Endpoint}`} cannot be used: ${thrown.message}${why}. ` +
        'Start it, or correct --store, --s3-endpoint or its credentials'
      : `cannot keep adapters in ${store}${why}: choose a folder that can be written, with --data or QUIVER_DATA`
    throw new ServingError('source_unavailable', message, thrown.context, { cause: thrown })
  }
}

function reasonOf({ context, cause }: ServingError): string {
  const reason = context['reason'] ?? (cause instanceof Error && 'code' in cause ? String(cause.code) : undefined)
  return reason === undefined ? '' : ` (${reason})`
}
