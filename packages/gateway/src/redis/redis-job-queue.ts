/**
 * Publishing jobs in Redis, for all gateways of a store, by BullMQ. A job is there once; a gateway that dies with it loses its lock,
 * and another one takes the job up. Nothing in Redis has to be right or there: what is lost is found in the drop folder again.
 *
 * Queue and worker have a connection of their own, whose commands wait for a lost connection to come back. They are made when it
 * stands for the first time, since BullMQ does not recover from a server that is down at that moment.
 */
import { type AdapterDigest, type Logger, parseAdapterDigest, ServingError, toServingError } from '@quiver/protocol'
import { type Job, Queue, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { TimerClock } from '../clock.ts'
import type { DropOutcome, DropWork } from '../publish/drop-job.ts'
import { JOBS_LISTED, type JobState, type JobView } from '../publish/job-list.ts'
import { type JobQueue, type JobRunner, type QueueRules, queueRules } from '../publish/job-queue.ts'
import type { RedisConnection } from './redis-connection.ts'

/** Of the form of keys and values: other versions of Quiver may share the server. */
const FORMAT = 1
const QUEUE = 'drops'
/** A command that is not answered by then has failed. */
const PATIENCE_MS = 2000
/** How long running jobs may take to end when the gateway stops. */
const CLOSE_MS = 5000
/** A gateway keeps its lock by renewing it at half of its life; without that another one may have the job. */
const LOCK_MS = 10_000
const STALLED_CHECK_MS = 5000
/** A job that so many gateways died with is given up for a while. */
const STALLED_AT_MOST = 20

const dataSchema = z.object({ name: z.string().max(1024) })
const outcomeSchema = z.discriminatedUnion('outcome', [
  z.object({ outcome: z.literal('published'), version: z.int().positive(), digest: z.string() }),
  z.object({ outcome: z.literal('rejected'), reasons: z.array(z.string()) }),
  z.object({ outcome: z.literal('superseded') }),
])

export interface RedisQueueDeps {
  readonly redis: RedisConnection
  /** Tells one store's jobs from another's in the same Redis. */
  readonly scope: string
  readonly clock: TimerClock
  readonly now: () => Date
  readonly log: Logger
  readonly rules?: QueueRules
  /** Otherwise than by default, in tests that wait for a lock to end. */
  readonly locks?: { readonly lockMs: number; readonly checkMs: number }
}

/** Where Redis has a job; `ended` is told apart by what it returned. */
const places = [
  ['wait', 'waiting'],
  ['active', 'running'],
  ['delayed', 'retrying'],
  ['completed', 'published'],
  ['failed', 'failed'],
] as const

export class RedisJobQueue implements JobQueue {
  readonly #deps: RedisQueueDeps
  readonly #rules: QueueRules
  readonly #client: Redis
  readonly #closing = new AbortController()
  #queue: Queue | undefined
  #worker: Worker | undefined
  #lastError = ''

  constructor(deps: RedisQueueDeps) {
    this.#deps = deps
    this.#rules = deps.rules ?? queueRules
    this.#client = deps.redis.duplicate({
      lazyConnect: false,
      maxRetriesPerRequest: null,
      enableOfflineQueue: true,
      commandTimeout: undefined,
    })
  }

  /** For the page about it; undefined while Redis was never reached. */
  get queue(): Queue | undefined {
    if (this.#queue === undefined && this.#client.status === 'ready') {
      this.#queue = new Queue(QUEUE, this.#options())
      this.#queue.on('error', (error) => this.#note(error))
    }
    return this.#queue
  }

  async add({ id, name }: DropWork): Promise<void> {
    const { attempts, backoffMs, remembered, doneMs, failedMs } = this.#rules
    await this.#ask(async (queue) => {
      const before: Job | undefined = await queue.getJob(id)
      if (before !== undefined) {
        if (before.finishedOn === undefined) return
        const pauseMs = before.failedReason === undefined ? doneMs : failedMs
        if (this.#deps.now().getTime() - before.finishedOn < pauseMs) return
        // Fails when another gateway has put it there again and runs it.
        await before.remove().catch(() => undefined)
      }
      await queue.add(
        name,
        { name },
        {
          jobId: id,
          attempts,
          backoff: { type: 'exponential', delay: backoffMs, jitter: 0.5 },
          removeOnComplete: { count: remembered },
          removeOnFail: { count: remembered },
        },
      )
    })
  }

  start(run: JobRunner): void {
    if (this.#client.status === 'ready') this.#work(run)
    else this.#client.once('ready', () => this.#work(run))
  }

  async recent(limit: number): Promise<readonly JobView[]> {
    const most = Math.min(limit, JOBS_LISTED)
    return await this.#ask(async (queue) => {
      const found = await Promise.all(
        places.map(async ([place, state]) => {
          const jobs: (Job | undefined)[] = await queue.getJobs([place], 0, most - 1)
          return jobs.flatMap((job) => (job === undefined ? [] : [viewOf(job, state)]))
        }),
      )
      // A job may have moved on between two of the questions; where it was last counts.
      const views = new Map(found.flat().map((view) => [view.id, view]))
      return [...views.values()].sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1)).slice(0, most)
    })
  }

  async close(): Promise<void> {
    this.#closing.abort(new ServingError('draining', 'the server is being stopped'))
    const worker = this.#worker
    // What still runs then, or cannot be told to Redis, is taken up by another gateway.
    if (worker !== undefined)
      await this.#within(CLOSE_MS, worker.close()).catch(() => void worker.close(true).catch(() => undefined))
    await this.#within(PATIENCE_MS, this.#queue?.close() ?? Promise.resolve()).catch(() => undefined)
    this.#client.disconnect()
  }

  #work(run: JobRunner): void {
    if (this.#closing.signal.aborted) return
    const { log, locks = { lockMs: LOCK_MS, checkMs: STALLED_CHECK_MS } } = this.#deps
    const worker = new Worker<unknown, DropOutcome>(
      QUEUE,
      async (job) => await run({ id: job.id ?? '', name: dataSchema.parse(job.data).name }, this.#closing.signal),
      {
        ...this.#options(),
        concurrency: this.#rules.atOnce,
        lockDuration: locks.lockMs,
        stalledInterval: locks.checkMs,
        maxStalledCount: STALLED_AT_MOST,
      },
    )
    worker.on('error', (error) => this.#note(error))
    worker.on('failed', (job, error) => {
      if (job?.finishedOn === undefined) return
      const { message, code } = toServingError(error)
      log('warn', `the drop '${nameOf(job)}' could not be published and is tried again later: ${message}`, { code })
    })
    this.#worker = worker
  }

  #options() {
    const { scope } = this.#deps
    return { connection: this.#client, prefix: `quiver:${scope}:jobs:${FORMAT}`, skipVersionCheck: true }
  }

  async #ask<T>(question: (queue: Queue) => Promise<T>): Promise<T> {
    const { queue } = this
    if (queue === undefined || this.#client.status !== 'ready') throw unreachable()
    try {
      return await this.#within(PATIENCE_MS, question(queue))
    } catch (cause) {
      throw cause instanceof ServingError ? cause : unreachable(cause)
    }
  }

  async #within<T>(patienceMs: number, work: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>()
    const stop = this.#deps.clock.after(patienceMs, () => late.reject(unreachable()))
    return await Promise.race([work, late.promise]).finally(stop)
  }

  /** The connection's state is logged where it is kept; of the rest each kind of failure once in a row. */
  #note({ message }: Error): void {
    if (this.#client.status !== 'ready' || message === this.#lastError) return
    this.#lastError = message
    this.#deps.log('warn', 'the queue of publishing jobs failed in Redis', { reason: message })
  }
}

function viewOf(job: Job, state: JobState): JobView {
  const { id = '', timestamp, processedOn, finishedOn, failedReason, attemptsStarted } = job
  const outcome = state === 'published' ? outcomeSchema.safeParse(job.returnvalue).data : undefined
  const isRetry = state === 'retrying' && failedReason !== undefined
  const reasons = failedReason !== undefined && (state === 'failed' || isRetry) ? [failedReason] : []
  return {
    ...{ id, kind: 'drop', name: nameOf(job), attempts: attemptsStarted },
    ...{ state: outcome?.outcome ?? state, reasons: outcome?.outcome === 'rejected' ? outcome.reasons : reasons },
    ...(outcome?.outcome === 'published' ? { version: outcome.version, digest: digestOf(outcome.digest) } : {}),
    createdAt: new Date(timestamp).toISOString(),
    ...(processedOn === undefined ? {} : { startedAt: new Date(processedOn).toISOString() }),
    ...(finishedOn === undefined ? {} : { finishedAt: new Date(finishedOn).toISOString() }),
  }
}

function nameOf(job: Job): string {
  return dataSchema.safeParse(job.data).data?.name ?? ''
}

function digestOf(text: string): AdapterDigest | undefined {
  try {
    return parseAdapterDigest(text)
  } catch {
    // Written by somebody else.
    return undefined
  }
}

function unreachable(cause?: unknown): ServingError {
  const reason = cause instanceof Error ? { reason: cause.message } : {}
  return new ServingError('source_unavailable', 'the queue of publishing jobs cannot be reached: Redis does not answer', reason, {
    cause,
  })
}
