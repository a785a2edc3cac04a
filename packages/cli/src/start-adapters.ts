/** Adapters that are registered, fetched and pinned at the start, as TGI's and LoRAX's launchers name them. */
import { stat } from 'node:fs/promises'
import path from 'node:path'
import { type AdapterSource, parseHubReference } from '@quiver/cache/origin'
import { type Catalogue, CatalogueEditor, type Wishes } from '@quiver/gateway'
import { parseAdapterName, ServingError, toServingError } from '@quiver/protocol'
import type { Config } from './option-schema.ts'
import type { StartAdapter } from './start-adapter.ts'

export interface StartAdapterDeps {
  readonly catalogue: Catalogue
  readonly now: () => Date
  readonly cwd: string
  /** Reads an adapter from a source that the operator himself has named: also folders outside of the local roots. */
  readonly registerNamed: (source: AdapterSource, wishes: Wishes, signal: AbortSignal) => Promise<unknown>
}

/**
 * Registers and pins them, one after another. One that fails does not keep the others, nor the server, from starting.
 * @returns a line for a person about each that failed
 */
export async function registerStartAdapters(
  adapters: readonly StartAdapter[],
  adapterSource: Config['adapterSource'],
  deps: StartAdapterDeps,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const lines: string[] = []
  for (const adapter of adapters) {
    try {
      await registerOne(adapter, adapterSource, deps, signal)
    } catch (thrown) {
      const { message } = toServingError(thrown)
      const used = await pinKnown(adapter, deps).catch(() => false)
      lines.push(`Adapter ${adapter.id} of the start ${used ? 'stays as it was' : 'is not served'}: ${message}`)
    }
    if (signal.aborted) break
  }
  return lines
}

async function registerOne(
  adapter: StartAdapter,
  adapterSource: Config['adapterSource'],
  deps: StartAdapterDeps,
  signal: AbortSignal,
): Promise<void> {
  const isPlain = adapter.path === undefined && adapter.revision === undefined
  // Without a source the catalogue is meant, as in requests.
  if (isPlain && (adapterSource === 'store' || adapterSource === 'pbase') && (await pinKnown(adapter, deps))) return
  const source = await sourceOf(adapter, adapterSource, deps.cwd)
  await deps.registerNamed(source, { name: parseAdapterName(adapter.id), pin: true }, signal)
}

/** @returns whether there is such an adapter */
async function pinKnown({ id }: StartAdapter, { catalogue, now }: StartAdapterDeps): Promise<boolean> {
  const name = parseAdapterName(id)
  if (catalogue.latest(name) === undefined) return false
  await new CatalogueEditor({ catalogue, now }).setPinned(name, true, { actor: { tenant: 'system' } })
  return true
}

async function sourceOf(adapter: StartAdapter, adapterSource: Config['adapterSource'], cwd: string): Promise<AdapterSource> {
  const { id, path: place = id, revision } = adapter
  if (/^s3:\/\//i.test(place) || (adapter.path === undefined && adapterSource === 's3')) return { type: 's3', uri: place }
  if (/^[/.]/.test(place) || (adapter.path === undefined && adapterSource === 'local')) return local(place, cwd)
  if (adapter.path !== undefined && (await isFolder(path.resolve(cwd, place)))) return local(place, cwd)
  if (parseHubReference(place) !== undefined) return { type: 'hub', id: place, ...(revision === undefined ? {} : { revision }) }
  throw new ServingError(
    'adapter_not_found',
    `${JSON.stringify(place)} is no adapter of the catalogue and no id of the hub: write ${id}=/path, ${id}=s3://bucket/path or org/name`,
  )
}

function local(place: string, cwd: string): AdapterSource {
  return { type: 'local', path: path.resolve(cwd, place) }
}

async function isFolder(place: string): Promise<boolean> {
  return await stat(place).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
