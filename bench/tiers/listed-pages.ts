/** Pages of a large catalogue over HTTP, from a server that has it. */
import { pathToFileURL } from 'node:url'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { startQuiver } from '../shared/quiver-process.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { summarise } from '../shared/statistics.ts'

const WARM_UPS = 5

const pageSchema = z.object({ adapters: z.array(z.object({ name: z.string() })), cursor: z.string().nullable() })

/** @param folder the store's; `group` is what the figures stand under */
export async function measureListedPages(
  context: BenchContext,
  { folder, group, pageSizes }: { readonly folder: string; readonly group: string; readonly pageSizes: readonly number[] },
): Promise<Figure[]> {
  const { quick, signal, progress, cleanUp } = context
  progress('quiver serve with it')
  const settings = await serverSettings(context, await temporaryFolder(cleanUp))
  const server = await startQuiver({ ...context, settings: { ...settings, QUIVER_STORE: pathToFileURL(folder).href } })
  const figures: Figure[] = [
    { id: 'catalogue.ready', group, label: 'quiver serve with it is ready', unit: 's', value: server.readyMs / 1000 },
  ]
  for (const limit of pageSizes) {
    const times: number[] = []
    let cursor: string | null = null
    for (let page = 0; page < (quick ? 10 : 50) + WARM_UPS; page += 1) {
      const startedAtMs = performance.now()
      cursor = await nextPage(`${server.url}/admin/adapters?limit=${limit}`, cursor, signal)
      if (page >= WARM_UPS) times.push(performance.now() - startedAtMs)
    }
    const figure = { id: `catalogue.listed.${limit}`, group, label: `GET /admin/adapters?limit=${limit}`, unit: 'ms' } as const
    figures.push({ ...measured(figure, summarise(times)), target: { at: 'most', value: 50 } })
  }
  await server.stop()
  return figures
}

/** @returns the cursor of the page behind; null after the last one */
async function nextPage(url: string, cursor: string | null, signal: AbortSignal): Promise<string | null> {
  const response = await fetch(cursor === null ? url : `${url}&cursor=${encodeURIComponent(cursor)}`, { signal })
  if (response.status !== 200)
    throw new ServingError('internal', `the server answered ${response.status} instead of a page: ${await response.text()}`)
  return pageSchema.parse(await response.json()).cursor
}
