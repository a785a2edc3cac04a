/** A server of somebody else's, beside which Quiver is measured. */
import type { BenchContext, Environment } from '../bench.ts'
import { type ProcessGroup, startGroup, untilReady } from '../shared/process-group.ts'

const READY_SECONDS = 600
const STOP_PATIENCE_MS = 10_000
const QUESTION_MS = 1000

export interface PeerCommand {
  readonly file: string
  readonly args: readonly string[]
  readonly env?: Environment
}

/** Starts it with its standard input and output as pipes. */
export function startPeer({ file, args, env }: PeerCommand, { env: outside, cleanUp }: BenchContext): ProcessGroup {
  const around = { env: { ...outside, ...env }, stdio: 'pipe', cleanUp, stopPatienceMs: STOP_PATIENCE_MS } as const
  return startGroup(file, args, around)
}

/** @throws ServingError `internal` with its last words when it ends before, or takes more than ten minutes */
export async function untilHealthy(url: string, name: string, peer: ProcessGroup, signal: AbortSignal): Promise<void> {
  await untilReady(name, peer, { seconds: READY_SECONDS, signal }, async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(QUESTION_MS) })
    await response.arrayBuffer()
    return response.status === 200
  })
}
