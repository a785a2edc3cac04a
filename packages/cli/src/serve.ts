/** `quiver serve`: a gateway in this process, a worker beside it, a folder as object store. */
import { randomBytes } from 'node:crypto'
import { systemClock, WorkerPool, workerAgent } from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import { toEnvironment } from './config.ts'
import { publishExamples } from './example-adapters.ts'
import { openGateway } from './gateway-parts.ts'
import { orUnusable } from './object-store.ts'
import type { Config } from './option-schema.ts'
import { progressReport } from './progress-report.ts'
import { readyText } from './ready-text.ts'
import { onStopSignals } from './stop-signals.ts'
import { supervisorDefaults, WorkerSupervisor } from './worker-supervisor.ts'

/** How long a request waits for a worker that is being restarted. */
const WORKER_PATIENCE_MS = 20_000
/** How long running requests may take to finish after the first signal. */
const DRAIN_MS = 20_000
/** How long a worker that says that it is ready may take to be connected. */
const CONNECT_MS = 10_000
/** After the second signal. */
const EXIT_AT_ONCE = 130

export interface ServeIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean }
  readonly log: Logger
  /** The module to run for `quiver worker`. */
  readonly mainModule: string
  readonly exampleFolder: string
  /** Started by `npm start`: when npm is gone, so is whoever wanted the server. */
  readonly isUnderNpm: boolean
}

/**
 * Serves until a signal comes.
 * @returns the process's exit code
 * @throws ServingError when it cannot start, with what to change
 */
export async function serve(config: Config, io: ServeIo): Promise<number> {
  const clock = systemClock()
  const report = progressReport(io.stderr, clock)
  const log: Logger = (...line) => {
    report.end()
    io.log(...line)
  }
  const agent = workerAgent()
  const workers = new WorkerPool(
    { dispatcher: agent, clock, random: Math.random, log: quiet(log) },
    { patienceMs: WORKER_PATIENCE_MS },
  )
  const { gateway, store, opened, administration, drops, wantsKey } = await openGateway(config, {
    workers,
    clock,
    log,
    stderr: io.stderr,
  })
  const { catalogue } = opened
  // The port first: that it is taken must be known before minutes of downloading.
  const { url } = await gateway.listen()
  await orUnusable(config, () => opened.start())
  const token = randomBytes(32).toString('hex')
  /** Where the worker that runs now can be reached. */
  let listening = ''
  const supervisor = new WorkerSupervisor(
    { ...supervisorDefaults, command: workerCommand(config, token, io.mainModule), recordFolder: config.cache },
    {
      clock,
      log,
      onProgress: (progress) => report.show(progress),
      onLost: () => workers.remove(listening),
      async onReady(workerUrl) {
        listening = workerUrl
        const worker = await workers.add({ url: workerUrl, token }, CONNECT_MS)
        report.end()
        const refusal = await publishExamples(io.exampleFolder, worker.info, { store, catalogue, now: () => new Date() })
        if (refusal !== undefined) io.stderr.write(`${refusal}\n`)
      },
    },
  )
  const stopped = onStopSignals({
    nowMs: clock.nowMs,
    ...(io.isUnderNpm ? { parentPid: () => process.ppid } : {}),
    onFirst() {
      report.end()
      io.stderr.write('Stopping: running requests may finish. Press Ctrl-C again to stop at once.\n')
    },
    onSecond() {
      supervisor.kill()
      process.exit(EXIT_AT_ONCE)
    },
  })
  const start = async () => {
    await supervisor.start()
    await administration.start((line) => io.stderr.write(`${line}\n`))
    drops.start()
  }
  try {
    const first = await Promise.race([start().then(() => 'ready'), stopped.then(() => 'stopped')])
    if (first === 'ready' && workers.info !== undefined) {
      gateway.open()
      io.stdout.write(readyText({ url, info: workers.info, adapters: catalogue.names(), wantsKey }))
      await stopped
    }
    return 0
  } finally {
    report.end()
    administration.close()
    await gateway.close(DRAIN_MS)
    await drops.close()
    await supervisor.stop()
    workers.close()
    await opened.close()
    await agent.destroy()
  }
}

/** The supervisor says in its own words when its worker is gone; what the pool says of it would be the same again. */
function quiet(log: Logger): Logger {
  return (level, ...line) => {
    if (level === 'error') log(level, ...line)
  }
}

function workerCommand(config: Config, token: string, mainModule: string) {
  // A worker has no use for what opens the gateway.
  const own = { QUIVER_WORKER_HOST: '127.0.0.1', QUIVER_WORKER_PORT: '0', QUIVER_WORKER_TOKEN: token, QUIVER_ADMIN_KEY: '' }
  return {
    command: process.execPath,
    args: [...process.execArgv, mainModule, 'worker'],
    // Few heaps of the C library: each thread's own keeps what was freed in it.
    env: { MALLOC_ARENA_MAX: '2', ...process.env, ...toEnvironment(config), ...own },
  }
}
