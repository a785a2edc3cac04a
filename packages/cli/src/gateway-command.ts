/** `quiver gateway`: one gateway process in front of workers that run elsewhere. It keeps nothing; any number of them may run. */
import { Resolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import { openDiscovery, RedisRegistry, type Siblings, systemClock, WorkerPool, workerAgent } from '@quiver/gateway'
import { type Logger, ServingError } from '@quiver/protocol'
import { openGateway } from './gateway-parts.ts'
import { isLoopback } from './loopback.ts'
import { orUnusable } from './object-store.ts'
import type { Config } from './option-schema.ts'
import { onStopSignals } from './stop-signals.ts'

/** How long running requests may take to finish once the port is closed. */
const DRAIN_MS = 20_000
/** After the second signal. */
const EXIT_AT_ONCE = 130

export const STOPPING = 'Stopping: running requests may finish. A second signal stops at once.\n'

export interface GatewayIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
  readonly log: Logger
  /** The other processes of this gateway, of which the one that started them tells; absent: there is this one alone. */
  readonly siblings?: Siblings
}

/**
 * Serves until a signal comes. It listens from the start and answers 503 while it knows no worker.
 * @returns the process's exit code
 * @throws ServingError when it cannot start, with what to change
 */
export async function runGateway(config: Config, { stdout, stderr, log, siblings }: GatewayIo): Promise<number> {
  refuseWithoutWorkers(config)
  const clock = systemClock()
  const agent = workerAgent()
  // Requests that find no worker are told so at once; balancers and clients try again elsewhere.
  const workers = new WorkerPool({ dispatcher: agent, clock, random: Math.random, log }, { patienceMs: 0 })
  const { gateway, opened, administration, drops } = await openGateway(config, { workers, clock, log, stderr, siblings })
  const { url } = await gateway.listen()
  await orUnusable(config, () => opened.start())
  const registry = opened.redis === undefined ? undefined : new RedisRegistry({ redis: opened.redis, log })
  const discovery = openDiscovery(config.workers, registry, { clock, log, random: Math.random, resolve: resolveName })
  for (const [source, one] of discovery) one.start((addresses) => workers.list(source, addresses, config.workerToken))
  gateway.open()
  if (siblings === undefined) stdout.write(`Quiver's gateway is ready: ${url}\n`)
  else siblings.ready(url)
  const stopped = onStopSignals({
    nowMs: clock.nowMs,
    onFirst: () => siblings === undefined && stderr.write(STOPPING),
    onSecond: () => process.exit(EXIT_AT_ONCE),
  })
  void workers.whenKnown().then(async () => {
    await administration.start((line) => stderr.write(`${line}\n`))
    drops.start()
  })
  try {
    await stopped
    // Balancers see that it is leaving, and what they send until then is served.
    gateway.leave()
    await new Promise<void>((resolve) => clock.after(config.drainDelayMs, resolve))
    return 0
  } finally {
    administration.close()
    await gateway.close(DRAIN_MS)
    await drops.close()
    for (const one of discovery.values()) one.close()
    workers.close()
    await opened.close()
    await agent.destroy()
  }
}

function refuseWithoutWorkers({ workers, redis, workerToken }: Config): void {
  if (workers.length === 0 && redis === '') {
    throw new ServingError(
      'invalid_request',
      'no workers are named: give their addresses with --worker or QUIVER_WORKERS, or with --redis where they register themselves',
      { usage: 1 },
    )
  }
  const stranger = workers.find((place) => !isLoopback(hostOf(place)))
  if (workerToken === '' && stranger !== undefined) {
    throw new ServingError('invalid_request', `QUIVER_WORKER_TOKEN must be set to use ${stranger}, which is not loopback`)
  }
}

function hostOf(place: string): string {
  return new URL(place.replace(/^dns\+/, '')).hostname.replace(/^\[(.*)\]$/, '$1')
}

/** Both kinds of addresses; a name that has only one kind has no error for the other. */
async function resolveName(name: string): Promise<readonly string[]> {
  if (isIP(name) !== 0) return [name]
  if (name === 'localhost') return ['127.0.0.1']
  const resolver = new Resolver({ timeout: 2_000, tries: 2 })
  const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
  const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
  const failed = answers.find((answer) => answer.status === 'rejected')
  if (found.length === 0 && failed !== undefined) throw failed.reason
  return found
}
