import { type Logger, ServingError, toServingError } from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { DropWork } from './drop-job.ts'
import { JOBS_LISTED, type JobView } from './job-list.ts'
import { type JobQueue, type JobRunner, type QueueRules, queueRules } from './job-queue.ts'

/** Jobs that wait or run; what is found beyond that is found again at the next look. */
const MOST_OPEN = 20_000

export interface LocalQueueDeps {
  readonly clock: TimerClock
  readonly now: () => Date
  /** 0 … 1 */
  readonly random: () => number
  readonly log: Logger
  readonly rules?: QueueRules
}

interface Job {
  readonly work: DropWork
  view: JobView
  readonly order: number
}

/** The queue of a gateway without Redis. It forgets everything with its process: looking at the drop folder finds it again. */
export class LocalJobQueue implements JobQueue {
  readonly #deps: LocalQueueDeps
  readonly #rules: QueueRules
  readonly #open = new Map<string, Job>()
  readonly #waiting: Job[] = []
  /** In the order of their ends. */
  readonly #ended = new Map<string, Job & { readonly endedAtMs: number }>()
  readonly #closing = new AbortController()
  readonly #running = new Set<Promise<void>>()
  readonly #stopRetries = new Map<Job, () => void>()
  #run: JobRunner | undefined
  #count = 0

  constructor(deps: LocalQueueDeps) {
    this.#deps = deps
    this.#rules = deps.rules ?? queueRules
  }

  async add(work: DropWork): Promise<void> {
    if (this.#closing.signal.aborted || this.#open.has(work.id) || this.#open.size >= MOST_OPEN) return
    const before = this.#ended.get(work.id)
    if (before !== undefined) {
      const pauseMs = before.view.state === 'failed' ? this.#rules.failedMs : this.#rules.doneMs
      if (this.#deps.clock.nowMs() - before.endedAtMs < pauseMs) return
      this.#ended.delete(work.id)
    }
    const view: JobView = {
      ...{ id: work.id, kind: 'drop', name: work.name, state: 'waiting', reasons: [], attempts: 0 },
      createdAt: this.#time(),
    }
    const job: Job = { work, view, order: this.#count++ }
    this.#open.set(work.id, job)
    this.#waiting.push(job)
    this.#next()
  }

  start(run: JobRunner): void {
    this.#run = run
    this.#next()
  }

  async recent(limit: number): Promise<readonly JobView[]> {
    const all = [...this.#open.values(), ...this.#ended.values()]
    return all
      .sort((a, b) => b.order - a.order)
      .slice(0, Math.min(limit, JOBS_LISTED))
      .map(({ view }) => view)
  }

  async close(): Promise<void> {
    this.#closing.abort(new ServingError('draining', 'the server is being stopped'))
    for (const stop of this.#stopRetries.values()) stop()
    await Promise.all(this.#running)
  }

  #next(): void {
    while (this.#run !== undefined && this.#running.size < this.#rules.atOnce && !this.#closing.signal.aborted) {
      const job = this.#waiting.shift()
      if (job === undefined) return
      const running = this.#attempt(job, this.#run).finally(() => {
        this.#running.delete(running)
        this.#next()
      })
      this.#running.add(running)
    }
  }

  async #attempt(job: Job, run: JobRunner): Promise<void> {
    const { log } = this.#deps
    const attempts = job.view.attempts + 1
    job.view = { ...job.view, state: 'running', reasons: [], attempts, startedAt: job.view.startedAt ?? this.#time() }
    try {
      const { outcome, ...rest } = await run(job.work, this.#closing.signal)
      this.#end(job, { state: outcome, ...rest })
    } catch (thrown) {
      const { message, code } = toServingError(thrown)
      if (this.#closing.signal.aborted) return this.#end(job, { state: 'failed', reasons: [message] })
      if (attempts >= this.#rules.attempts) {
        log('warn', `the drop '${job.work.name}' could not be published and is tried again later: ${message}`, { code })
        return this.#end(job, { state: 'failed', reasons: [message] })
      }
      job.view = { ...job.view, state: 'retrying', reasons: [message] }
      this.#retry(job, attempts)
    }
  }

  #retry(job: Job, attempts: number): void {
    const { clock, random } = this.#deps
    const bound = this.#rules.backoffMs * 2 ** (attempts - 1)
    const stop = clock.after(bound * (1 - random() / 2), () => {
      this.#stopRetries.delete(job)
      this.#waiting.push(job)
      this.#next()
    })
    this.#stopRetries.set(job, stop)
  }

  #end(job: Job, ending: Partial<JobView> & Pick<JobView, 'state'>): void {
    const view = { ...job.view, reasons: [], ...ending, finishedAt: this.#time() }
    this.#open.delete(job.work.id)
    this.#ended.set(job.work.id, { ...job, view, endedAtMs: this.#deps.clock.nowMs() })
    for (const id of this.#ended.keys()) {
      if (this.#ended.size <= this.#rules.remembered) break
      this.#ended.delete(id)
    }
  }

  #time(): string {
    return this.#deps.now().toISOString()
  }
}
