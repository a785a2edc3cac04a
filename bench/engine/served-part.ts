/**
 * What only a whole server shows: how soon it is ready, what a request costs beyond the engine's work, and how much memory
 * worker and gateway take.
 */
import path from 'node:path'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { type QuiverProcess, startQuiver } from '../shared/quiver-process.ts'
import { serverSettings } from '../shared/server-settings.ts'
import { summarise } from '../shared/statistics.ts'
import { writeAdapters } from './served-adapters.ts'
import { measureServedMemory } from './served-memory.ts'
import { measureWholeRequest } from './whole-request.ts'

export async function measureServed(context: BenchContext): Promise<Figure[]> {
  const folder = await temporaryFolder(context.cleanUp)
  const root = path.join(folder, 'adapters')
  const names = await writeAdapters(context, root)
  const settings = { ...(await serverSettings(context, folder)), QUIVER_LOCAL_ROOTS: root }
  const starts = context.quick ? 1 : 5
  const readyTimes: number[] = []
  const start = async (): Promise<QuiverProcess> => {
    return await startQuiver({ settings, ...context })
  }
  // The first one publishes the examples, and converts the model where nobody has.
  context.progress(`quiver serve: one start that does not count, then ${starts}`)
  let server = await start()
  while (readyTimes.length < starts) {
    await server.stop()
    server = await start()
    readyTimes.push(server.readyMs / 1000)
  }
  const served = { url: server.url, pid: server.pid, root, names }
  const request = await measureWholeRequest(context, served)
  const memory = await measureServedMemory(context, served)
  await server.stop()
  return [readyFigure(readyTimes), ...request, ...memory]
}

function readyFigure(times: readonly number[]): Figure {
  const figure = { id: 'serve.ready', group: 'quiver serve', label: 'ready, with everything cached', unit: 's' } as const
  return { ...measured(figure, summarise(times)), target: { at: 'most', value: 4 } }
}
