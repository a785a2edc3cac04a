/** Where publishing jobs wait for their turn: in this process, or in Redis for all gateways of a store. */
import type { DropOutcome, DropWork } from './drop-job.ts'
import type { JobList } from './job-list.ts'

/** Throws what passes: the job is tried again. What it returns is final. */
export type JobRunner = (work: DropWork, signal: AbortSignal) => Promise<DropOutcome>

export interface JobQueue extends JobList {
  /**
   * The same work is waiting, running or to be retried: nothing happens. It ended a moment ago: nothing happens either, because who
   * found it may have looked before that.
   * @throws ServingError `source_unavailable` when the queue cannot be reached
   */
  add(work: DropWork): Promise<void>
  /** Begins to run jobs, also those that were added elsewhere. To be called once. */
  start(run: JobRunner): void
  /** Begins no more and lets the running ones end; what is not done then is done by who comes next. */
  close(): Promise<void>
}

export interface QueueRules {
  /** Jobs of one gateway at once: each holds its weights in memory. */
  readonly atOnce: number
  /** Of one job, before it is given up until it is found again. */
  readonly attempts: number
  /** Before the second attempt; doubled each time, and up to half of it less at random. */
  readonly backoffMs: number
  /** Ended jobs that are remembered. */
  readonly remembered: number
  /** Work that was done, or given up, this recently is not added again. */
  readonly doneMs: number
  readonly failedMs: number
}

export const queueRules: QueueRules = {
  atOnce: 4,
  attempts: 5,
  backoffMs: 1000,
  remembered: 500,
  doneMs: 10_000,
  failedMs: 60_000,
}
