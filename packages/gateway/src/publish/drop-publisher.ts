/** The drop folder of a store: finds what is dropped, publishes it, and tells of both. */
import type { Logger } from '@quiver/protocol'
import { type DropJobDeps, runDropJob } from './drop-job.ts'
import { DropWatch } from './drop-watch.ts'
import type { JobList } from './job-list.ts'
import type { JobQueue } from './job-queue.ts'

export interface DropPublisherDeps extends DropJobDeps {
  readonly queue: JobQueue
  /** 0 … 1 */
  readonly random: () => number
  readonly log: Logger
  /** Between two looks at the whole folder; 0: only at the start. */
  readonly intervalMs: number
}

export interface DropPublisher {
  readonly jobs: JobList
  /** Begins; to be called when it is known what adapters must fit. Called again, it does nothing. */
  start(): void
  /**
   * Looks at the folders of these keys of the store now.
   * @returns the names that they belong to
   */
  notice(keys: readonly string[]): readonly string[]
  /** Waits for running jobs a bounded time; what is not done then is done by who comes next. */
  close(): Promise<void>
}

/** @example const drops = createDropPublisher(deps); drops.start() */
export function createDropPublisher({ queue, random, intervalMs, ...deps }: DropPublisherDeps): DropPublisher {
  const { store, clock, log } = deps
  const watch = new DropWatch({ store, queue, clock, random, log, intervalMs })
  let isStarted = false
  return {
    jobs: queue,
    start() {
      if (isStarted) return
      isStarted = true
      queue.start((work, signal) => runDropJob(work, deps, signal))
      watch.start()
    },
    notice: (keys) => (isStarted ? watch.notice(keys) : []),
    async close() {
      watch.close()
      await queue.close()
    },
  }
}
