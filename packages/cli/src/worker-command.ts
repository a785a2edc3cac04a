/** `quiver worker`: one worker process, a child of `quiver serve` or by itself. */
import { randomBytes, randomUUID } from 'node:crypto'
import path from 'node:path'
import { type Logger, ServingError, type WorkerMessage } from '@quiver/protocol'
import { cgroupMemory, createProcessRunner, createWorker, nodeTimers, type WorkerConfig } from '@quiver/worker'
import { isLoopback } from './loopback.ts'
import { s3Settings } from './object-store.ts'
import type { Config } from './option-schema.ts'
import { startFailure } from './start-failure.ts'
import { onStopSignals } from './stop-signals.ts'

/** How long running requests may take to finish after SIGTERM. */
const DRAIN_MS = 20_000
/** How long a start may take to end what it has begun, such as a download by another program. */
const CALL_OFF_MS = 300

/** Runs until told to stop; the process's exit code says how it ended. */
export async function runWorker(config: Config, home: string, log: Logger): Promise<number> {
  if (config.workerToken === '' && !isLoopback(config.workerHost)) {
    throw new ServingError(
      'invalid_request',
      `QUIVER_WORKER_TOKEN must be set to listen on ${config.workerHost}, which is not loopback`,
    )
  }
  const tell = parentChannel()
  const stopping = new AbortController()
  let isReady = false
  const stopped = onStopSignals({
    nowMs: performanceClock.nowMs,
    onFirst() {
      stopping.abort()
      // A start that is called off has nothing to finish; what it was writing is written so that it may break off anywhere.
      if (!isReady) setTimeout(() => process.exit(0), CALL_OFF_MS)
    },
    onSecond: () => process.exit(1),
  })
  try {
    const worker = await createWorker(workerConfig(config, home), {
      clock: performanceClock,
      timers: nodeTimers,
      wallClockMs: Date.now,
      log,
      drawSeed: () => randomBytes(8).readBigUInt64BE(),
      uniqueId: randomUUID,
      onProgress: (progress) => void tell({ type: 'progress', progress }),
      fetch,
      readMemory: cgroupMemory('/sys/fs/cgroup'),
      runProcess: createProcessRunner(process.env),
      signal: stopping.signal,
      fatal(error) {
        log('error', 'the worker cannot go on', {
          cause: error instanceof Error ? (error.stack ?? error.message) : String(error),
        })
        process.exit(70)
      },
    })
    isReady = true
    await tell({ type: 'ready', url: worker.url })
    if (!hasParent()) log('info', 'the worker is ready', { url: worker.url })
    await stopped
    await Promise.race([worker.drain(), new Promise<void>((resolve) => nodeTimers.after(DRAIN_MS, resolve))])
    await worker.close()
    return 0
  } catch (thrown) {
    if (stopping.signal.aborted) return 0
    const error = startFailure(thrown, config.cache)
    if (!hasParent()) throw error
    if (error.code === 'internal') {
      const cause = error.cause ?? error
      log('error', 'the worker could not start', {
        cause: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause),
      })
    }
    // The parent says it, once.
    await tell({ type: 'failed', code: error.code, message: error.message })
    return 1
  }
}

const performanceClock = { nowMs: () => performance.now() }

/**
 * Messages to the parent, where there is one. A parent that dies closes the channel, and then nobody is left to work for:
 * the whole process group ends at once, wherever it is, downloads and all.
 */
function parentChannel(): (message: WorkerMessage) => Promise<void> {
  if (!hasParent()) return async () => {}
  const endGroup = () => {
    try {
      // The parent has made this process the leader of its group.
      process.kill(-process.pid, 'SIGKILL')
    } catch {
      process.exit(1)
    }
  }
  process.once('disconnect', endGroup)
  // The parent may have died while this process was still reading its modules, and then the event is over.
  if (process.connected === false) endGroup()
  return (message) =>
    new Promise((resolve) => {
      if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
      else resolve()
    })
}

function hasParent(): boolean {
  return process.send !== undefined
}

function workerConfig(config: Config, home: string): WorkerConfig {
  return {
    model: config.model,
    dtype: config.dtype,
    lora: config.lora,
    slots: config.slots,
    maxRank: config.maxRank,
    sequences: config.sequences,
    totalTokens: config.totalTokens,
    ...(config.maxInputTokens === 0 ? {} : { inputTokens: config.maxInputTokens }),
    chunkTokens: config.chunkTokens,
    threads: config.threads,
    host: config.workerHost,
    port: config.workerPort,
    token: config.workerToken === '' ? undefined : config.workerToken,
    cacheDir: config.cache,
    kernelsDir: path.join(import.meta.dirname, '../../../kernels'),
    storeUrl: config.store,
    s3: s3Settings(config),
    localRoots: config.localRoots,
    s3Buckets: config.s3Buckets,
    hub: {
      ...(config.hubEndpoint === '' ? {} : { endpoint: config.hubEndpoint }),
      ...(config.hubToken === '' ? {} : { token: config.hubToken }),
      cacheDir: path.join(config.hubHome, 'hub'),
    },
    python: config.python,
    homeDir: home,
    adapterArrivalMs: config.adapterTimeoutMs,
    ramBytes: config.ramBytes,
    diskBytes: config.diskBytes,
  }
}
