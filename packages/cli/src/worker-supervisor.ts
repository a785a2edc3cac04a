/**
 * Keeps one worker process running. A worker that says why it cannot start is believed: trying again would say the same. One
 * that just ends is started again, after ever longer pauses; but when it has never been ready, only a few times.
 */
import type { TimerClock } from '@quiver/gateway'
import { assertNever, type Logger, type Progress, ServingError, type WorkerMessage } from '@quiver/protocol'
import { describeExit, type WorkerCommand, type WorkerExit, WorkerProcess } from './worker-process.ts'

export interface SupervisorConfig {
  readonly command: WorkerCommand
  /** Where the worker's steps are written down, so that the last one is known when it is killed. */
  readonly recordFolder: string
  /** Pause before a restart: doubled with each failure in a row, up to the longest. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
  /** A worker that was ready for this long has not failed at its start. */
  readonly stableMs: number
  /** How long a stopping worker may take before it is killed. */
  readonly stopMs: number
}

export const supervisorDefaults = { firstPauseMs: 200, longestPauseMs: 30_000, stableMs: 10_000, stopMs: 10_000 } as const

/** Ends in a row, without ever having been ready, after which no further start is tried. */
const MAX_EARLY_ENDS = 3

export interface SupervisorDeps {
  readonly clock: TimerClock
  readonly log: Logger
  readonly onProgress: (progress: Progress) => void
  /** A worker listens there. It counts as ready when the promise resolves. */
  readonly onReady: (url: string) => Promise<void>
  /** The worker is gone. */
  readonly onLost: () => void
}

export class WorkerSupervisor {
  readonly #config: SupervisorConfig
  readonly #deps: SupervisorDeps
  readonly #firstReady = Promise.withResolvers<void>()
  #process: WorkerProcess | undefined
  /** Resolves when the last worker has ended and that has been dealt with. */
  #over: Promise<void> = Promise.resolve()
  /** Resolves when the readiness that a worker has announced has been dealt with. */
  #readied: Promise<void> = Promise.resolve()
  #wasReady = false
  #readyAtMs: number | undefined
  #failuresInRow = 0
  #isStopping = false
  #cancelRestart = () => {}

  constructor(config: SupervisorConfig, deps: SupervisorDeps) {
    this.#config = config
    this.#deps = deps
    // Whoever called `start` hears of it; a stop before that must not be an unhandled rejection.
    this.#firstReady.promise.catch(() => {})
  }

  /**
   * Starts the worker and keeps it running.
   * @returns resolves when it is ready for the first time
   * @throws ServingError what the worker said, or how it ended, when it will not start
   */
  start(): Promise<void> {
    this.#spawn()
    return this.#firstReady.promise
  }

  /** The running worker's process id. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** Lets the worker finish, at most for `stopMs`. Resolves when no process is left. */
  async stop(): Promise<void> {
    this.#isStopping = true
    this.#cancelRestart()
    const running = this.#process
    if (running === undefined) return
    running.terminate()
    const stopKill = this.#deps.clock.after(this.#config.stopMs, () => running.kill())
    await this.#over
    stopKill()
  }

  /** Ends the worker at once, without waiting. */
  kill(): void {
    this.#isStopping = true
    this.#process?.kill()
  }

  #spawn(): void {
    const started = new WorkerProcess(this.#config.command, this.#config.recordFolder, (message) => this.#hear(started, message))
    this.#process = started
    this.#over = started.exit.then(async (exit) => {
      this.#process = undefined
      // A worker that dies while it is being received must be heard of as ready first and as lost after it.
      await this.#readied
      this.#ended(exit)
    })
  }

  #hear(from: WorkerProcess, message: WorkerMessage): void {
    switch (message.type) {
      case 'progress':
        this.#deps.onProgress(message.progress)
        break
      case 'ready':
        this.#readied = this.#ready(from, message.url)
        break
      case 'failed':
        if (!this.#wasReady) this.#giveUp(refusal(message))
        else this.#deps.log('error', `the worker could not start again: ${message.message}`)
        break
      default:
        assertNever(message)
    }
  }

  async #ready(from: WorkerProcess, url: string): Promise<void> {
    try {
      await this.#deps.onReady(url)
    } catch (error) {
      if (!this.#wasReady && error instanceof ServingError && error.code !== 'worker_lost') this.#giveUp(error)
      else from.kill()
      return
    }
    if (this.#process !== from) return
    this.#readyAtMs = this.#deps.clock.nowMs()
    this.#wasReady = true
    this.#firstReady.resolve()
  }

  #ended(exit: WorkerExit): void {
    this.#deps.onLost()
    if (this.#isStopping) return
    const { clock, log } = this.#deps
    const wasStable = this.#readyAtMs !== undefined && clock.nowMs() - this.#readyAtMs >= this.#config.stableMs
    this.#readyAtMs = undefined
    this.#failuresInRow = wasStable ? 1 : this.#failuresInRow + 1
    if (!this.#wasReady && this.#failuresInRow >= MAX_EARLY_ENDS) {
      this.#giveUp(
        new ServingError(
          'worker_lost',
          `the worker process ended ${MAX_EARLY_ENDS} times while it started, at last with ${describeExit(exit)}`,
        ),
      )
      return
    }
    const pauseMs = Math.min(this.#config.longestPauseMs, this.#config.firstPauseMs * 2 ** (this.#failuresInRow - 1))
    log('warn', `the worker ended with ${describeExit(exit)}; it is started again in ${pauseMs} ms`)
    this.#cancelRestart = clock.after(pauseMs, () => this.#spawn())
  }

  #giveUp(error: ServingError): void {
    this.#isStopping = true
    this.#firstReady.reject(error)
  }
}

/** A worker that does not know what went wrong has written all that it does know to the log. */
function refusal({ code, message }: Extract<WorkerMessage, { type: 'failed' }>): ServingError {
  return code === 'internal'
    ? new ServingError('worker_lost', 'the worker could not start; what went wrong is in the line above')
    : new ServingError(code, message)
}
