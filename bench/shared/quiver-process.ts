/** `quiver serve` as users run it: a process of its own, ended with everything it has started. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ServingError } from '@quiver/protocol'
import type { Environment } from '../bench.ts'
import type { CleanUp } from './clean-up.ts'

const MAIN = fileURLToPath(new URL('../../packages/cli/src/main.ts', import.meta.url))
const OUTPUT_KEPT = 4000
/** An orderly end takes a second; after this it is taken for stuck. */
const STOP_PATIENCE_MS = 30_000

export interface QuiverProcess {
  readonly url: string
  readonly pid: number
  /** From spawning the process until its ready line was read. */
  readonly readyMs: number
  stop(): Promise<void>
}

export interface StartOptions {
  /** `QUIVER_*` of the server. */
  readonly settings: Readonly<Record<string, string>>
  /** Our own environment, of which no `QUIVER_*` is passed on. */
  readonly env: Environment
  readonly cleanUp: CleanUp
  readonly signal: AbortSignal
}

/** @throws ServingError `internal` with its last words when it ends before it is ready */
export async function startQuiver({ settings, env, cleanUp, signal }: StartOptions): Promise<QuiverProcess> {
  signal.throwIfAborted()
  const startedAtMs = performance.now()
  const outside = Object.entries(env).filter(([name]) => !name.startsWith('QUIVER_'))
  const child = spawn(process.execPath, [MAIN, 'serve'], {
    env: { ...Object.fromEntries(outside), ...settings, QUIVER_PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Leads a group of its own: Ctrl-C is ours to pass on.
    detached: true,
  })
  const exit = new Promise<void>((resolve) => child.once('close', () => resolve()).once('error', () => resolve()))
  const stop = cleanUp.add({ undo: () => stopChild(child, exit), undoNow: () => killGroup(child) })
  const url = await readyUrl(child, exit, signal)
  return { url, pid: child.pid ?? -1, readyMs: performance.now() - startedAtMs, stop }
}

function readyUrl(child: ChildProcess, exit: Promise<void>, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = ''
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    for (const stream of [child.stdout, child.stderr]) {
      // Goes on reading when ready, so that the pipe never fills.
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(-OUTPUT_KEPT)
        const [, url] = /Quiver is ready: (\S+)\s/.exec(output) ?? []
        if (url !== undefined) resolve(url)
      })
    }
    void exit.then(() => reject(new ServingError('internal', `quiver serve ended before it was ready:\n${output}`)))
  })
}

async function stopChild(child: ChildProcess, exit: Promise<void>): Promise<void> {
  child.kill('SIGTERM')
  const patience = setTimeout(() => killGroup(child), STOP_PATIENCE_MS)
  await exit
  clearTimeout(patience)
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The group is gone already.
  }
}
