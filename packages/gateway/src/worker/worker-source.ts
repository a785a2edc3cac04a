import {
  type AdapterOrder,
  type AdapterOrderKind,
  type AdapterPresences,
  ServingError,
  type WorkerInfo,
  type WorkerState,
} from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { WorkerClient } from './worker-client.ts'

/** What one worker says of its adapters. */
export interface WorkerAdapters extends AdapterPresences {
  readonly workerId: string
}

/** Where requests find the worker to run on. */
export interface WorkerSource {
  /** What the worker said of itself; undefined before the first was ready. It stays known while a worker restarts. */
  readonly info: WorkerInfo | undefined
  /**
   * The worker to use now. While one restarts, waits for it a bounded time.
   * @param failed the worker that was just lost: it may be dead before anyone noticed, so it is asked before it is used again
   * @throws ServingError `not_ready`, or the signal's reason
   */
  acquire(signal: AbortSignal, failed?: WorkerClient): Promise<WorkerClient>
  /** How often a worker has become ready. */
  readonly arrivals: number
  /** What the worker is doing; undefined while there is none. @throws ServingError when it does not say so */
  state(signal: AbortSignal): Promise<WorkerState | undefined>
  /** The adapters of every worker that is there; of one alone where a digest is given. @throws ServingError as `WorkerClient.adapters` */
  adapters(signal: AbortSignal, digest?: string): Promise<readonly WorkerAdapters[]>
  /**
   * Gives every worker an order about an adapter; none is there: none is told.
   * @throws ServingError as `WorkerClient.order`, of the first worker that cannot carry it out
   */
  order(kind: AdapterOrderKind, order: AdapterOrder, signal: AbortSignal): Promise<readonly WorkerAdapters[]>
  /** Whether a request would be served now. */
  isHealthy(signal: AbortSignal): Promise<boolean>
}

interface Waiter {
  readonly resolve: (worker: WorkerClient) => void
  readonly reject: (reason: unknown) => void
}

/** The one worker of `quiver serve`. Who runs the process says when it is there and when it is gone. */
export class SoleWorker implements WorkerSource {
  readonly #clock: TimerClock
  readonly #patienceMs: number
  readonly #waiters = new Set<Waiter>()
  #worker: WorkerClient | undefined
  #info: WorkerInfo | undefined
  #arrivals = 0

  /** @param options patienceMs: how long a request waits for a worker that restarts */
  constructor(options: { readonly clock: TimerClock; readonly patienceMs: number }) {
    this.#clock = options.clock
    this.#patienceMs = options.patienceMs
  }

  get info(): WorkerInfo | undefined {
    return this.#info
  }

  /** A worker is ready; whoever waits goes on with it. */
  arrived(worker: WorkerClient): void {
    this.#worker = worker
    this.#info = worker.info
    this.#arrivals++
    for (const waiter of this.#waiters) waiter.resolve(worker)
    this.#waiters.clear()
  }

  /** The worker is gone, for now. */
  lost(): void {
    this.#worker = undefined
  }

  async acquire(signal: AbortSignal, failed?: WorkerClient): Promise<WorkerClient> {
    signal.throwIfAborted()
    const worker = this.#worker
    if (worker !== undefined && (worker !== failed || (await worker.isHealthy(signal)))) return worker
    // A first start may take minutes of downloading: who comes then is told so at once.
    if (this.#info === undefined) throw new ServingError('not_ready', 'The model is still being loaded: try again in a moment')
    return this.#wait(signal)
  }

  get arrivals(): number {
    return this.#arrivals
  }

  async state(signal: AbortSignal): Promise<WorkerState | undefined> {
    return await this.#worker?.state(signal)
  }

  async adapters(signal: AbortSignal, digest?: string): Promise<readonly WorkerAdapters[]> {
    return await this.#ask((worker) => worker.adapters(signal, digest))
  }

  async order(kind: AdapterOrderKind, order: AdapterOrder, signal: AbortSignal): Promise<readonly WorkerAdapters[]> {
    return await this.#ask((worker) => worker.order(kind, order, signal))
  }

  async #ask(question: (worker: WorkerClient) => Promise<AdapterPresences>): Promise<readonly WorkerAdapters[]> {
    const worker = this.#worker
    return worker === undefined ? [] : [{ workerId: worker.info.workerId, ...(await question(worker)) }]
  }

  async isHealthy(signal: AbortSignal): Promise<boolean> {
    return (await this.#worker?.isHealthy(signal)) ?? false
  }

  async #wait(signal: AbortSignal): Promise<WorkerClient> {
    const { promise, resolve, reject } = Promise.withResolvers<WorkerClient>()
    const waiter: Waiter = { resolve, reject }
    const onAbort = () => reject(signal.reason)
    const stopTimer = this.#clock.after(this.#patienceMs, () =>
      reject(new ServingError('not_ready', 'The worker was lost and is being restarted: try again in a moment')),
    )
    this.#waiters.add(waiter)
    signal.addEventListener('abort', onAbort)
    try {
      return await promise
    } finally {
      stopTimer()
      signal.removeEventListener('abort', onAbort)
      this.#waiters.delete(waiter)
    }
  }
}
