/** Small adapters for a tiny base model, and catalogues over stores in memory, for tests of publishing. */
import type { ObjectStore } from '@quiver/cache/store'
import { Catalogue, type CatalogueDeps, type Publication, type Published, publishAdapter } from '@quiver/gateway'
import { parseAdapterName } from '@quiver/protocol'
import { buildAdapter, tinyLayout } from './adapter-files.ts'

export const publishedAt = new Date('2026-01-02T03:04:05.000Z')

/** A publication of content number `n`; the same number is the same content. */
export function publicationOf(name: string, n: number, options: Partial<Publication> = {}): Publication {
  const { config, weights } = buildAdapter({ value: (_, i) => n + i / 8 })
  return { name: parseAdapterName(name), config, weights, layout: tinyLayout, maxRank: 8, ...options }
}

export async function publishTo(
  store: ObjectStore,
  catalogue: Catalogue,
  ...[name, n, options]: Parameters<typeof publicationOf>
): Promise<Published> {
  return await publishAdapter(publicationOf(name, n, options), { store, catalogue, now: () => publishedAt })
}

/** A catalogue that has just read a store, as a gateway has after its start. */
export async function freshCatalogue(store: ObjectStore, deps: CatalogueDeps = {}): Promise<Catalogue> {
  const catalogue = new Catalogue(store, deps)
  await catalogue.load()
  return catalogue
}
