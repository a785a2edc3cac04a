/** What is told of publishing jobs: those that wait and run, and the last that ended. */
import type { AdapterDigest } from '@quiver/protocol'

/**
 * `waiting`: for its turn. `running`: on some gateway. `retrying`: it failed and is tried again later. `published` and `rejected`:
 * done. `superseded`: its files were changed or taken away before they could be read, so that there was nothing to do. `failed`:
 * given up for now; the drop is still there and is taken up again later.
 */
export const jobStates = ['waiting', 'running', 'retrying', 'published', 'rejected', 'superseded', 'failed'] as const
export type JobState = (typeof jobStates)[number]

export interface JobView {
  /** Of the name and the etags of its files: the same drop is the same job. */
  readonly id: string
  readonly kind: 'drop'
  /** The adapter's name as it was dropped; not one that the server takes, perhaps. */
  readonly name: string
  readonly state: JobState
  /** Why it was rejected, failed, or has to be tried again: every reason, one text each. Empty in the other states. */
  readonly reasons: readonly string[]
  /** What it was published as. */
  readonly version?: number | undefined
  readonly digest?: AdapterDigest | undefined
  /** How often it was begun. */
  readonly attempts: number
  /** ISO 8601, UTC. */
  readonly createdAt: string
  readonly startedAt?: string | undefined
  readonly finishedAt?: string | undefined
}

/** The most that one answer has. */
export const JOBS_LISTED = 500

/** Where jobs are asked for; the same for both queues. */
export interface JobList {
  /**
   * Newest first by `createdAt`.
   * @param limit 1 … `JOBS_LISTED`
   * @throws ServingError `source_unavailable` while the queue cannot be asked
   */
  recent(limit: number): Promise<readonly JobView[]>
}

/** Of a server that takes no drops. */
export const noJobs: JobList = { recent: async () => [] }
