/** A full batch for minutes, with adapters that come and go: how late the event loops are, and whether memory stays flat. */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { childrenOf, readProcessMemory } from '../shared/process-memory.ts'
import { quantile } from '../shared/statistics.ts'
import type { Ask } from './contestant.ts'
import { closedLoop } from './load.ts'
import { startUnderLoad } from './quiver-under-load.ts'

const ADAPTERS = 64
const ROUND = 128

export interface FullBatchFigures {
  readonly lags: readonly Figure[]
  readonly memory: readonly Figure[]
}

/**
 * @param bench begins the ids of figures
 * @param minutes how long the batch is full
 */
export async function measureFullBatch(context: BenchContext, bench: string, minutes: number): Promise<FullBatchFigures> {
  const { progress, signal, config } = context
  let lagFolder = ''
  const {
    process: server,
    prompts,
    client,
  } = await startUnderLoad(context, ADAPTERS, async (folder) => {
    lagFolder = path.join(folder, 'lag')
    await mkdir(lagFolder)
    const probe = new URL('lag-probe.ts', import.meta.url)
    probe.searchParams.set('folder', lagFolder)
    return { NODE_OPTIONS: `--import ${probe.href}` }
  })
  const contestant = client()
  const asks = (): Ask[] =>
    Array.from({ length: ROUND }, (_, index) => ({ ...prompts.next(128), newTokens: 64, adapter: index % ADAPTERS }))
  progress('warming up')
  await closedLoop(
    contestant,
    asks().map((ask) => ({ ...ask, newTokens: 2 })),
    config.sequences,
  )
  for (const name of await readdir(lagFolder)) await rm(path.join(lagFolder, name))
  const endAtMs = performance.now() + minutes * 60_000
  const resident: number[] = []
  while (performance.now() < endAtMs) {
    signal.throwIfAborted()
    progress(
      `a full batch for ${minutes} minutes, ${ADAPTERS} adapters in turn: ${Math.ceil((endAtMs - performance.now()) / 60_000)} left`,
    )
    await closedLoop(contestant, asks(), config.sequences)
    resident.push(await residentBytes(server.pid))
  }
  const lags = await lagFigures(bench, lagFolder, server.pid, config.sequences)
  await server.stop()
  return { lags, memory: memoryFigures(bench, resident, config.slots, minutes) }
}

/** Of the process and its children. */
async function residentBytes(pid: number): Promise<number> {
  const memory = await Promise.all([pid, ...(await childrenOf(pid))].map(readProcessMemory))
  return memory.reduce((sum, one) => sum + (one?.resident ?? 0), 0)
}

async function lagFigures(bench: string, folder: string, gateway: number, sequences: number): Promise<Figure[]> {
  const group = `How late the event loop is, ${sequences} requests at once`
  const [worker] = await childrenOf(gateway)
  const processes = [
    { id: 'gateway', pid: gateway },
    { id: 'worker', pid: worker },
  ]
  return await Promise.all(
    processes.map(async ({ id, pid }): Promise<Figure> => {
      const lags = (await readFile(path.join(folder, `${pid}.txt`), 'utf8')).trim().split('\n').map(Number)
      return {
        id: `${bench}.lag.${id}`,
        group,
        label: `${id}, p99`,
        unit: 'ms',
        value: quantile(lags, 0.99),
        target: { at: 'most', value: 20 },
      }
    }),
  )
}

function memoryFigures(bench: string, resident: readonly number[], slots: number, minutes: number): Figure[] {
  const group = `Resident memory of worker and gateway, ${slots} slots, ${minutes} minutes of ${ADAPTERS} adapters in turn`
  const third = Math.ceil(resident.length / 3)
  const median = (values: readonly number[]) => quantile(values, 0.5) / 1e6
  return [
    {
      id: `${bench}.memory.most`,
      group,
      label: 'most',
      unit: 'MB',
      value: Math.max(...resident) / 1e6,
      target: { at: 'most', value: 1600 },
    },
    {
      id: `${bench}.memory.first`,
      group,
      label: 'median of the first third',
      unit: 'MB',
      value: median(resident.slice(0, third)),
    },
    { id: `${bench}.memory.last`, group, label: 'median of the last third', unit: 'MB', value: median(resident.slice(-third)) },
    {
      id: `${bench}.memory.growth`,
      group,
      label: 'last third ÷ first third',
      unit: 'x',
      value: median(resident.slice(-third)) / median(resident.slice(0, third)),
      target: { at: 'most', value: 1.02 },
    },
  ]
}
