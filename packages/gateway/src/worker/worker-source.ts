import type {
  AdapterOrder,
  AdapterOrderKind,
  AdapterPresences,
  RunEvent,
  RunRequest,
  WorkerInfo,
  WorkerState,
} from '@quiver/protocol'
import type { Placement, PlacementKind } from '../placement/place.ts'
import type { WorkerClient } from './worker-client.ts'
import type { WorkerReport } from './worker-report.ts'

/** What one worker says of its adapters. */
export interface WorkerAdapters extends AdapterPresences {
  readonly workerId: string
  /** The base model that it serves. */
  readonly base: string
}

/** An order for the workers of one base model. */
export interface OrderForBase extends AdapterOrder {
  /** Absent: for those of every one. */
  readonly base?: string | undefined
}

/** Where a run was sent, and how that worker stood to its adapter. */
export interface Placed {
  readonly workerId: string
  readonly kind: PlacementKind
}

/** A run with its worker, before it is sent. */
export interface PlacedRun extends Placed {
  /** Of the worker; for `place`, so that it is not chosen again. */
  readonly address: string
  /**
   * Sends it. The end of the stream, however it comes, ends all that was counted for it.
   * @throws ServingError as `WorkerClient.run`; `worker_lost` also when the worker is given up
   */
  events(request: RunRequest, signal: AbortSignal): AsyncGenerator<readonly RunEvent[]>
}

/** Where requests find the workers to run on. */
export interface WorkerSource {
  /**
   * What the workers of the usual base model say of themselves; undefined before the first was ready. It stays known while they
   * restart.
   */
  readonly info: WorkerInfo | undefined
  /** The same for one base model; undefined when no worker has served it yet. */
  infoOf(base: string): WorkerInfo | undefined
  /** The base models that there have been workers of, the usual one first. */
  readonly bases: readonly string[]
  /** Runs that the workers that are there would hold together. */
  readonly places: number
  /** A request has come, of whose kind some may be run twice. */
  noteRequest(): void
  /** Whether a run that failed may be run again now; it then counts. */
  mayRetry(): boolean
  /**
   * Chooses the worker for a run. While none is there but one is expected back, waits for it a bounded time.
   * @param tried addresses of workers that have just failed: others are preferred, and they are asked how they are before they are used again
   * @throws ServingError `not_ready`, or the signal's reason
   */
  place(request: RunRequest, signal: AbortSignal, tried: ReadonlySet<string>): Promise<PlacedRun>
  /**
   * What would be chosen now, and why; undefined when no worker takes requests.
   * @param adapter by what requests for it are placed, a digest for those of the catalogue; absent: the base model
   * @param base absent: the usual one
   */
  explain(adapter: string | undefined, base: string | undefined): Placement | undefined
  /** Every worker that should be there, whatever its state. Never rejects for one that does not answer. */
  workers(signal: AbortSignal): Promise<readonly WorkerReport[]>
  /** Tells one worker to get nothing more, from any gateway. @throws ServingError `not_found`, `worker_lost`, or the signal's reason */
  drain(id: string, signal: AbortSignal): Promise<void>
  /** Any worker that is well, for what is not a run. @throws ServingError as `place` */
  acquire(signal: AbortSignal): Promise<WorkerClient>
  /** How often a worker has become ready. */
  readonly arrivals: number
  /** What the workers are doing together; undefined while there is none. @throws ServingError when none says so */
  state(signal: AbortSignal): Promise<WorkerState | undefined>
  /** The adapters of every worker that is there; of one alone where a digest is given. @throws ServingError as `WorkerClient.adapters` */
  adapters(signal: AbortSignal, digest?: string): Promise<readonly WorkerAdapters[]>
  /**
   * Gives every worker of a base model an order about an adapter; none is there: none is told.
   * @throws ServingError as `WorkerClient.order`, of the first worker that cannot carry it out
   */
  order(kind: AdapterOrderKind, order: OrderForBase, signal: AbortSignal): Promise<readonly WorkerAdapters[]>
  /** Whether a request would be served now. */
  isHealthy(signal: AbortSignal): Promise<boolean>
}
