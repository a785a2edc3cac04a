/** `quiver serve` as users run it: a process of its own, ended with everything it has started. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { Environment } from '../bench.ts'
import type { CleanUp } from './clean-up.ts'
import { type ProcessGroup, startGroup } from './process-group.ts'

const root = path.join(import.meta.dirname, '../..')
const packageSchema = z.object({ scripts: z.object({ quiver: z.string().startsWith('exec node ') }) })
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
  const group = startGroup(process.execPath, [...(await quiverArguments()), 'serve'], {
    env: { ...Object.fromEntries(outside), ...settings, QUIVER_PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
    cleanUp,
    stopPatienceMs: STOP_PATIENCE_MS,
  })
  const url = await readyUrl(group, signal)
  return { url, pid: group.child.pid ?? -1, readyMs: performance.now() - startedAtMs, stop: group.stop }
}

/** What `npm run quiver` gives to Node. */
export async function quiverArguments(): Promise<string[]> {
  const { scripts } = packageSchema.parse(JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')))
  return scripts.quiver
    .split(' ')
    .slice(2)
    .map((word) => (word.startsWith('-') ? word : path.join(root, word)))
}

function readyUrl({ child, closed, output }: ProcessGroup, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', () => {
        const [, url] = /Quiver is ready: (\S+)\s/.exec(output()) ?? []
        if (url !== undefined) resolve(url)
      })
    }
    void closed.then(() => reject(new ServingError('internal', `quiver serve ended before it was ready:\n${output()}`)))
  })
}
