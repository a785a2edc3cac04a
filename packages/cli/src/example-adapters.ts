import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import type { ObjectStore } from '@quiver/cache/store'
import { type Catalogue, type Publication, publishAdapter } from '@quiver/gateway'
import { parseAdapterName, ServingError, type WorkerInfo } from '@quiver/protocol'

/** Written when the examples have been published once, so that they do not come back after somebody has removed them. */
const SEEDED_KEY = 'seeds/example-adapters.json'

export interface ExampleDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  readonly now: () => Date
}

/**
 * Publishes the adapters of a folder under their folders' names, once for a store. Interrupted, it goes on at the next start.
 * @returns why not, in a line for a person; undefined when they are there
 */
export async function publishExamples(
  folder: string,
  { layout, limits, model }: WorkerInfo,
  deps: ExampleDeps,
): Promise<string | undefined> {
  if (await isSeeded(deps.store)) return undefined
  const entries = await readdir(folder, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  try {
    for (const name of names) {
      const [config, weights] = await Promise.all([
        readFile(path.join(folder, name, 'adapter_config.json')),
        readFile(path.join(folder, name, 'adapter_model.safetensors')),
      ])
      const publication = {
        name: parseAdapterName(name),
        config,
        weights: new Uint8Array(weights),
        layout,
        maxRank: limits.maxRank,
        source: { type: 'example', path: name },
      }
      await publishUnlessThere(publication, deps)
    }
  } catch (error) {
    if (!(error instanceof ServingError) || error.code !== 'adapter_invalid') throw error
    return `The example adapters are not published, because they do not fit ${model.id} with ranks up to ${limits.maxRank}.`
  }
  await deps.store.put(SEEDED_KEY, new TextEncoder().encode(`${JSON.stringify({ names, at: deps.now().toISOString() })}\n`))
  return undefined
}

/** Two servers that start on one store publish the same at once: to whom it happens, the other's version is as good. */
async function publishUnlessThere(publication: Publication, deps: ExampleDeps): Promise<void> {
  try {
    await publishAdapter(publication, deps)
  } catch (error) {
    if (!(error instanceof ServingError) || error.code !== 'conflict') throw error
    await deps.catalogue.load()
  }
}

async function isSeeded(store: ObjectStore): Promise<boolean> {
  try {
    await store.head(SEEDED_KEY)
    return true
  } catch (error) {
    if (error instanceof ServingError && error.code === 'not_found') return false
    throw error
  }
}
