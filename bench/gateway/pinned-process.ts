/** Programs that are kept to one processor each, so that what is measured does not borrow from what measures it. */
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { Environment } from '../bench.ts'
import type { CleanUp } from '../shared/clean-up.ts'
import { type ProcessGroup, startGroup } from '../shared/process-group.ts'
import { type Load, type LoadResult, loadResultSchema } from './load.ts'

const STOP_PATIENCE_MS = 5_000

export interface PinnedOptions {
  readonly command: string
  readonly args: readonly string[]
  /** The processor it may use. */
  readonly processor: number
  readonly env: Environment
  readonly cleanUp: CleanUp
  /** With a channel for messages. */
  readonly hasChannel?: boolean
}

export function startPinned({ command, args, processor, env, cleanUp, hasChannel = false }: PinnedOptions): ProcessGroup {
  return startGroup('taskset', ['-c', String(processor), command, ...args], {
    env,
    stdio: hasChannel ? ['ignore', 'pipe', 'pipe', 'ipc'] : ['ignore', 'pipe', 'pipe'],
    cleanUp,
    stopPatienceMs: STOP_PATIENCE_MS,
  })
}

const urlMessage = z.object({ url: z.url() })
const resultMessage = z.object({ result: loadResultSchema })

export type Surroundings = Pick<PinnedOptions, 'env' | 'cleanUp'> & { readonly signal: AbortSignal }

/** The stub worker. @returns where it listens */
export async function startStub(
  around: Surroundings,
  processor: number,
): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const { child, stop } = startModule('./stub-worker.ts', around, processor)
  const [message] = await once(child, 'message', { signal: around.signal })
  return { url: urlMessage.parse(message).url, stop }
}

export interface LoadGenerator {
  /** @throws ServingError `internal` when a request failed */
  run(load: Load): Promise<LoadResult>
  stop(): Promise<void>
}

export async function startLoadGenerator(around: Surroundings, processor: number): Promise<LoadGenerator> {
  const { signal } = around
  const { child, stop } = startModule('./load-generator.ts', around, processor)
  await once(child, 'message', { signal })
  return {
    async run(load) {
      child.send(load)
      const [message] = await once(child, 'message', { signal })
      const { result } = resultMessage.parse(message)
      // An open load that is more than can be carried answers only what was sent before the time that counts.
      const isLate = load.kind === 'open' && result.answered === 0
      if (result.failed > 0 || (result.answered + result.events === 0 && !isLate)) {
        const why = result.firstFailure ?? 'no answer'
        throw new ServingError('internal', `${result.failed} requests to ${load.url}${load.path} failed; the first: ${why}`)
      }
      return result
    },
    stop,
  }
}

function startModule(module: string, around: Surroundings, processor: number): ProcessGroup {
  const args = [fileURLToPath(new URL(module, import.meta.url))]
  return startPinned({ ...around, command: process.execPath, args, processor, hasChannel: true })
}
