/** `quiver serve`: a gateway in this process, a worker beside it, a folder as object store. */
import { randomBytes, randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { connectWorker, createGateway, Keyring, SoleWorker, systemClock, workerAgent } from '@quiver/gateway'
import type { Logger } from '@quiver/protocol'
import manifest from '../package.json' with { type: 'json' }
import { toEnvironment } from './config.ts'
import { publishExamples } from './example-adapters.ts'
import { isLoopback } from './loopback.ts'
import { openStore, orUnusable } from './object-store.ts'
import { openCatalogue } from './open-catalogue.ts'
import type { Config } from './option-schema.ts'
import { progressReport } from './progress-report.ts'
import { readyText } from './ready-text.ts'
import { onStopSignals } from './stop-signals.ts'
import { supervisorDefaults, WorkerSupervisor } from './worker-supervisor.ts'

/** How long a request waits for a worker that is being restarted. */
const WORKER_PATIENCE_MS = 20_000
/** How long running requests may take to finish after the first signal. */
const DRAIN_MS = 20_000
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
  const workers = new SoleWorker({ clock, patienceMs: WORKER_PATIENCE_MS })
  for (const root of await missingFolders(config.localRoots)) {
    io.stderr.write(`QUIVER_LOCAL_ROOTS names ${root}, which is not a folder here: adapters below it are refused.\n`)
  }
  if (config.keys === '' && !isLoopback(config.host)) {
    io.stderr.write(
      `${config.host} can be reached from other machines and no API keys are set: whoever reaches the port may use it (--keys, docs/keys.md).\n`,
    )
  }
  const keys = config.keys === '' ? undefined : Keyring.open(config.keys, log)
  const store = await openStore(config, { clock, log })
  const opened = openCatalogue(config, { store, clock, log, random: Math.random })
  const { catalogue } = opened
  const gateway = createGateway(
    { host: config.host, port: config.port, version: manifest.version, processMetrics: true, clientLimits: clientLimits(config) },
    {
      workers,
      catalogue,
      ...(keys === undefined ? {} : { keys }),
      clock,
      now: () => new Date(),
      log,
      newId: randomUUID,
      drawSeed: () => Number(randomBytes(8).readBigUInt64BE() >> 11n),
    },
  )
  // The port first: that it is taken must be known before minutes of downloading.
  const { url } = await gateway.listen()
  await orUnusable(config, () => opened.start())
  const token = randomBytes(32).toString('hex')
  const supervisor = new WorkerSupervisor(
    { ...supervisorDefaults, command: workerCommand(config, token, io.mainModule) },
    {
      clock,
      log,
      onProgress: (progress) => report.show(progress),
      onLost: () => workers.lost(),
      async onReady(workerUrl) {
        const worker = await connectWorker({ url: workerUrl, token }, agent)
        report.end()
        const refusal = await publishExamples(io.exampleFolder, worker.info, { store, catalogue, now: () => new Date() })
        if (refusal !== undefined) io.stderr.write(`${refusal}\n`)
        workers.arrived(worker)
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
  try {
    const first = await Promise.race([supervisor.start().then(() => 'ready'), stopped.then(() => 'stopped')])
    if (first === 'ready' && workers.info !== undefined) {
      gateway.open()
      io.stdout.write(readyText({ url, info: workers.info, adapters: catalogue.names(), wantsKey: keys !== undefined }))
      await stopped
    }
    return 0
  } finally {
    report.end()
    await gateway.close(DRAIN_MS)
    await supervisor.stop()
    await opened.close()
    await agent.destroy()
  }
}

function clientLimits(config: Config) {
  return {
    concurrentRequests: config.maxConcurrentRequests,
    bestOf: config.maxBestOf,
    stopSequences: config.maxStopSequences,
    adapterSource: config.adapterSource === 'pbase' ? 'store' : config.adapterSource,
  } as const
}

async function missingFolders(folders: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(
    folders.map((folder) =>
      stat(folder).then(
        (stats) => stats.isDirectory(),
        () => false,
      ),
    ),
  )
  return folders.filter((_, index) => found[index] !== true)
}

function workerCommand(config: Config, token: string, mainModule: string) {
  const own = { QUIVER_WORKER_HOST: '127.0.0.1', QUIVER_WORKER_PORT: '0', QUIVER_WORKER_TOKEN: token }
  return {
    command: process.execPath,
    args: [...process.execArgv, mainModule, 'worker'],
    env: { ...process.env, ...toEnvironment(config), ...own },
  }
}
