import { inspectAdapter } from '@quiver/cache/format'
import { type ObjectStore, putStoredAdapter } from '@quiver/cache/store'
import { type AdapterName, type BaseLayout, ServingError } from '@quiver/protocol'
import type { Catalogue } from './catalogue.ts'
import type { Manifest } from './manifest.ts'

export interface Publication {
  readonly name: AdapterName
  readonly config: Uint8Array
  readonly weights: Uint8Array<ArrayBuffer>
  /** What the adapter must fit. */
  readonly layout: BaseLayout
  readonly maxRank: number
}

export interface PublishDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  readonly now: () => Date
}

/**
 * Checks an adapter and makes it servable under a name. Its manifest is written last, so what the catalogue knows is whole
 * in the store. Publishing the same content again changes nothing.
 * @returns the manifest under which it is served
 * @throws ServingError `adapter_invalid` with every reason, `conflict` when the name got another version meanwhile, `source_unavailable`
 * @example await publishAdapter({ name: parseAdapterName('acme/sql'), config, weights, layout, maxRank: 64 }, deps)
 */
export async function publishAdapter(publication: Publication, deps: PublishDeps): Promise<Manifest> {
  const { name, config, weights, layout, maxRank } = publication
  const { digest, rank, modules, bytes } = await inspectAdapter(config, weights, layout, maxRank)
  if (modules.length === 0) throw new ServingError('adapter_invalid', `adapter '${name}' changes no module`, { adapter: name })
  const known = deps.catalogue.latest(name)
  if (known?.digest === digest) return known
  await putStoredAdapter(deps.store, digest, { config, weights })
  const manifest: Manifest = {
    name,
    version: (known?.version ?? 0) + 1,
    digest,
    base: layout.baseModel,
    rank,
    modules,
    bytes,
    createdAt: deps.now().toISOString(),
  }
  await deps.catalogue.add(manifest)
  return manifest
}
