/** A server of somebody else's: a process of its own that ends with the bench. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { ServingError } from '@quiver/protocol'
import type { BenchContext, Environment } from '../bench.ts'

const READY_MS = 600_000
const POLL_MS = 250
const STOP_PATIENCE_MS = 10_000
const OUTPUT_KEPT = 4000

export interface PeerCommand {
  readonly file: string
  readonly args: readonly string[]
  readonly env?: Environment
}

export interface PeerProcess {
  readonly child: ChildProcess
  /** Its last words, for errors. */
  output(): string
}

/** Starts it with its standard input and output as pipes. */
export function startPeer({ file, args, env }: PeerCommand, { env: outside, cleanUp }: BenchContext): PeerProcess {
  const child = spawn(file, args, { env: { ...outside, ...env }, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-OUTPUT_KEPT)
    })
  const ended = once(child, 'close').catch(() => {})
  cleanUp.add({
    async undo() {
      signalGroup(child, 'SIGTERM')
      const patience = setTimeout(() => signalGroup(child, 'SIGKILL'), STOP_PATIENCE_MS)
      await ended
      clearTimeout(patience)
      // Its children may outlive it.
      signalGroup(child, 'SIGKILL')
    },
    undoNow: () => signalGroup(child, 'SIGKILL'),
  })
  return { child, output: () => output }
}

/** @throws ServingError `internal` with its last words when it ends before, or takes more than ten minutes */
export async function untilHealthy(url: string, name: string, peer: PeerProcess, signal: AbortSignal): Promise<void> {
  const endAtMs = performance.now() + READY_MS
  while (performance.now() < endAtMs && peer.child.exitCode === null) {
    signal.throwIfAborted()
    const response = await fetch(url, { signal: AbortSignal.timeout(POLL_MS * 4) }).catch(() => undefined)
    await response?.arrayBuffer()
    if (response?.status === 200) return
    await wait(POLL_MS, undefined, { signal })
  }
  throw new ServingError('internal', `${name} did not become ready:\n${peer.output()}`)
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // The group is gone already.
  }
}
