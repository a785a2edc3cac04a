/** What a test does to a server that it has started: harm it, bring it back, end it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type GuardedProcess, untilReady } from './guarded-process.ts'
import { isAlive } from './processes.ts'

export interface ServerControls {
  readonly pid: number
  /** Kills it (as `kill -9` does) and leaves it down. */
  kill(): Promise<void>
  /** Starts it again in the same place, after killing it if it runs. */
  restart(): Promise<void>
  /** Stops its time until `resume`. */
  pause(): void
  resume(): void
  /** Ends it for good and removes its files. */
  stop(): Promise<void>
}

export interface Readiness {
  /** Where its output goes. */
  readonly folder: string
  readonly timeoutMs: number
  isReady(): Promise<boolean>
}

const LINES_SHOWN = 30

/** Waits until a process serves; one that does not is ended, and the end of its log says why. */
export async function whenServing(server: GuardedProcess, { folder, timeoutMs, isReady }: Readiness): Promise<ServerControls> {
  let isRunning = true
  const kill = async (): Promise<void> => {
    if (isRunning) await server.kill()
    isRunning = false
  }
  const whenReady = () =>
    untilReady(isReady, {
      timeoutMs,
      isAlive: () => isAlive(server.pid),
      explain: async () => (await readFile(join(folder, 'log'), 'utf8')).split('\n').slice(-LINES_SHOWN).join('\n'),
    })
  try {
    await whenReady()
  } catch (error) {
    await server.stop()
    throw error
  }
  return {
    get pid() {
      return server.pid
    },
    kill,
    async restart() {
      await kill()
      await server.startAgain()
      isRunning = true
      await whenReady()
    },
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop: () => server.stop(),
  }
}
