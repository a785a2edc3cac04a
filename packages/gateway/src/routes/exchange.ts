/** One request's life: its id, when it came, and the signal that ends whatever is done for it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ServingError } from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { Placed } from '../worker/worker-source.ts'

/** A request and its answer, as Node has them. */
export interface NodeExchange {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
}

export interface Exchange {
  /** The client's own `x-request-id` where it is usable, otherwise a fresh one. */
  readonly requestId: string
  readonly arrivedAtMs: number
  /** Aborted with a ServingError: the client left, the deadline passed, or the server stops. */
  readonly signal: AbortSignal
  /** Milliseconds until the deadline, at least 0. */
  remainingMs(): number
  abort(reason: ServingError): void
  /** Where its first run was sent, or the one that was run again; undefined before that. */
  readonly placed: Placed | undefined
  /** A run was sent somewhere; an attempt above 1: because the worker before was lost. */
  notePlaced(placed: Placed, attempt: number): void
  /** Resolves when the first run was sent, or will not be. */
  readonly whenPlaced: Promise<void>
  /** Ends the deadline's timer; for every exchange, exactly when its answer is complete. */
  close(): void
}

export interface ExchangeOptions {
  readonly clock: TimerClock
  readonly deadlineMs: number
  readonly newId: () => string
  /** Aborted when the server cannot wait any longer. */
  readonly shutdown: AbortSignal
}

/** The worker ends a run at its deadline by itself and says so better; this is for one that does not. */
const DEADLINE_MARGIN_MS = 1000

export function openExchange(
  { incoming, outgoing }: NodeExchange,
  { clock, deadlineMs, newId, shutdown }: ExchangeOptions,
): Exchange {
  const arrivedAtMs = clock.nowMs()
  const controller = new AbortController()
  const settled = Promise.withResolvers<void>()
  let placed: Placed | undefined
  const abort = (reason: ServingError) => {
    controller.abort(reason)
    settled.resolve()
  }
  const stopDeadline = clock.after(deadlineMs + DEADLINE_MARGIN_MS, () =>
    abort(new ServingError('deadline_exceeded', `the request took longer than ${Math.round(deadlineMs / 1000)} s`)),
  )
  const onClose = () => {
    if (!outgoing.writableFinished) abort(new ServingError('client_closed', 'the client closed the connection'))
  }
  const onShutdown = () => abort(shutdown.reason)
  outgoing.once('close', onClose)
  shutdown.addEventListener('abort', onShutdown)
  return {
    requestId: readRequestId(incoming.headers['x-request-id']) ?? newId(),
    arrivedAtMs,
    signal: controller.signal,
    remainingMs: () => Math.max(0, deadlineMs - (clock.nowMs() - arrivedAtMs)),
    abort,
    get placed() {
      return placed
    },
    notePlaced(where, attempt) {
      if (placed === undefined || attempt > 1) placed = where
      settled.resolve()
    },
    whenPlaced: settled.promise,
    close() {
      settled.resolve()
      stopDeadline()
      outgoing.off('close', onClose)
      shutdown.removeEventListener('abort', onShutdown)
    },
  }
}

/** Undefined unless there is an `x-request-id` that can safely stand in headers and logs. */
export function readRequestId(given: string | string[] | undefined): string | undefined {
  return typeof given === 'string' && /^[A-Za-z0-9._:-]{1,80}$/.test(given) ? given : undefined
}
