/** `quiver worker`: one worker process, a child of `quiver serve` or by itself. */
import { randomBytes, randomUUID } from 'node:crypto'
import path from 'node:path'
import { openRedis, RedisRegistry, systemClock, WorkerRegistration } from '@quiver/gateway'
import { type Logger, ServingError, type WorkerMessage } from '@quiver/protocol'
import { cgroupMemory, createProcessRunner, createWorker, nodeTimers, type Worker, type WorkerConfig } from '@quiver/worker'
import { isLoopback } from './loopback.ts'
import { s3Settings } from './object-store.ts'
import type { Config } from './option-schema.ts'
import { remoteOf } from './remote-server.ts'
import { startFailure } from './start-failure.ts'
import { stepWriter } from './step-record.ts'
import { onStopSignals } from './stop-signals.ts'
import { addressForOthers } from './worker-address.ts'

/** How long running requests may take to finish after SIGTERM. */
const DRAIN_MS = 20_000
/** How long a start may take to end what it has begun, such as a download by another program. */
const CALL_OFF_MS = 300
/** How long the first registration waits for Redis; later ones come by themselves. */
const REDIS_PATIENCE_MS = 1_000

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
  const onStep = hasParent() ? stepWriter() : undefined
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
      ...(onStep === undefined ? {} : { onStep }),
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
    const registered = hasParent() ? undefined : await register(config, worker, log)
    if (!hasParent()) log('info', 'the worker is ready', { url: worker.url })
    await stopped
    if (!hasParent()) {
      // Gateways hear it at once; what is on its way to here is served.
      worker.leave()
      await registered?.end()
      await new Promise<void>((resolve) => nodeTimers.after(config.drainDelayMs, resolve))
    }
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

/** Keeps the worker where gateways look, if there is such a place. @returns ends that */
async function register(config: Config, worker: Worker, log: Logger): Promise<{ end(): Promise<void> } | undefined> {
  const address = addressForOthers(config.workerAddress, worker.url)
  if (config.redis === '') return undefined
  const clock = systemClock()
  const redis = await openRedis(config.redis, {
    clock,
    log,
    random: Math.random,
    without: 'gateways do not find this worker there',
  })
  const { model, workerId: epoch } = worker.info
  const registration = new WorkerRegistration(
    { address, base: model.id, epoch },
    { registry: new RedisRegistry({ redis, log }), clock, log, onReplaced: () => worker.leave() },
  )
  // Connecting begins with the first question.
  void redis.isReadyWithin(REDIS_PATIENCE_MS).then(() => registration.start())
  return {
    async end() {
      await registration.end()
      await redis.close()
    },
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
    device: config.device,
    dtype: config.dtype,
    remote: remoteOf(config),
    lora: config.lora,
    slots: config.slots,
    maxRank: config.maxRank,
    sequences: config.sequences,
    reservedShare: config.reservedPercent / 100,
    tenantWaitingRequests: config.tenantWaitingRequests,
    tenantWaitingTokens: config.tenantWaitingTokens,
    totalTokens: config.totalTokens,
    ...(config.maxInputTokens === 0 ? {} : { inputTokens: config.maxInputTokens }),
    chunkTokens: config.chunkTokens,
    chunkSizing: config.chunkSizing,
    speculation: config.speculation,
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
    prefixCacheBytes: config.prefixCacheBytes,
    diskBytes: config.diskBytes,
  }
}
