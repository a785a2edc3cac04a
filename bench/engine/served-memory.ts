/** Resident memory of worker and gateway once every slot holds an adapter that has answered. */
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { childrenOf, type ProcessMemory, readProcessMemory } from '../shared/process-memory.ts'
import { generate } from './generate-client.ts'
import type { ServedAdapters } from './served-adapters.ts'

const ROUNDS = 2
const NEW_TOKENS = 10
const PROMPT = 'Tell me in one sentence what an adapter of low rank is good for, and whom it serves best.'

/** No figures where the system does not tell. */
export async function measureServedMemory({ signal, progress }: BenchContext, served: ServedAdapters): Promise<Figure[]> {
  const { url, pid, names } = served
  progress(`memory: ${names.length} adapters answer at once`)
  for (let round = 0; round < ROUNDS; round += 1) {
    const answers = names.map(async (adapter) => {
      const response = await generate({ url, inputs: PROMPT, newTokens: NEW_TOKENS, adapter, signal })
      await response.arrayBuffer()
    })
    await Promise.all(answers)
  }
  const [workerPid] = await childrenOf(pid)
  const gateway = await readProcessMemory(pid)
  const worker = workerPid === undefined ? undefined : await readProcessMemory(workerPid)
  return gateway === undefined || worker === undefined ? [] : figuresOf(gateway, worker, names.length)
}

function figuresOf(gateway: ProcessMemory, worker: ProcessMemory, adapters: number): Figure[] {
  const group = `Resident memory after ${adapters} adapters of rank 16 have answered`
  const figure = (id: string, label: string, bytes: number): Figure => {
    return { id: `memory.${id}`, group, label, unit: 'MB', value: bytes / 1e6 }
  }
  return [
    { ...figure('total', 'worker and gateway', gateway.resident + worker.resident), target: { at: 'most', value: 1600 } },
    figure('total-anonymous', 'of it, without pages of files', gateway.anonymous + worker.anonymous),
    figure('worker', 'worker', worker.resident),
    figure('worker-anonymous', 'worker, without pages of files', worker.anonymous),
    figure('gateway', 'gateway', gateway.resident),
    figure('gateway-anonymous', 'gateway, without pages of files', gateway.anonymous),
  ]
}
