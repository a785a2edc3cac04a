/** Other programs beside a bench: each leads a process group of its own, which ends with the bench however that ends. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { ServingError } from '@quiver/protocol'
import type { Environment } from '../bench.ts'
import type { CleanUp } from './clean-up.ts'

const OUTPUT_KEPT = 4000
const POLL_MS = 100

export interface GroupOptions {
  readonly env: Environment
  readonly stdio: SpawnOptions['stdio']
  readonly cleanUp: CleanUp
  /** An orderly end takes a moment; after this it is taken for stuck. */
  readonly stopPatienceMs: number
}

export interface ProcessGroup {
  readonly child: ChildProcess
  /** The last of what it has written. */
  output(): string
  /** Resolves when it has ended, or could not be started. */
  readonly closed: Promise<void>
  /** In good order, and what it has started by force. */
  stop(): Promise<void>
}

export function startGroup(
  command: string,
  args: readonly string[],
  { env, stdio, cleanUp, stopPatienceMs }: GroupOptions,
): ProcessGroup {
  const child = spawn(command, args, { env, stdio: stdio ?? 'pipe', detached: true })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-OUTPUT_KEPT)
    })
  }
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()).once('error', () => resolve()))
  const kill = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal)
    } catch {
      // The group is gone already.
    }
  }
  const stop = cleanUp.add({
    async undo() {
      kill('SIGTERM')
      const patience = setTimeout(() => kill('SIGKILL'), stopPatienceMs)
      await closed
      clearTimeout(patience)
      // Its children may outlive it.
      kill('SIGKILL')
    },
    undoNow: () => kill('SIGKILL'),
  })
  return { child, output: () => output, closed, stop }
}

/**
 * Resolves when `isReady` answers true and does not fail.
 * @throws ServingError `internal` with the program's last words when it ends before, or takes longer
 */
export async function untilReady(
  name: string,
  { child, output }: Pick<ProcessGroup, 'child' | 'output'>,
  { seconds, signal }: { readonly seconds: number; readonly signal: AbortSignal },
  isReady: () => Promise<boolean>,
): Promise<void> {
  const untilMs = performance.now() + seconds * 1000
  while (!(await isReady().catch(() => false))) {
    signal.throwIfAborted()
    if (child.exitCode !== null || performance.now() > untilMs)
      throw new ServingError('internal', `${name} is not ready:\n${output()}`)
    await wait(POLL_MS, undefined, { signal })
  }
}

/** A port of loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}
