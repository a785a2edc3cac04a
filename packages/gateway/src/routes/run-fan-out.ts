/** Several runs for one request: what `best_of`, `n` and a list of prompts ask for. */
import { assertNever, type DoneEvent, type RunRequest, ServingError, type TokenEvent, toServingError } from '@quiver/protocol'
import { runWithRetry, type SuccessEvent } from '../worker/run-with-retry.ts'
import type { Exchange } from './exchange.ts'
import type { RunResult } from './lorax-answer.ts'
import type { GenerateDeps } from './start-run.ts'

/** What comes of a run, as many events at a time as have come together. */
export type RunEvents = AsyncGenerator<readonly SuccessEvent[]>

/** A finished run with the digest that its weights were found to have. */
export interface CollectedRun extends RunResult {
  readonly digest: string | undefined
}

/**
 * One run with a place of its own among the concurrent requests, taken when it is first read and given back when it ends.
 * @throws ServingError `overloaded`, or what the run fails with
 */
export async function* beginRun(deps: GenerateDeps, exchange: Exchange, request: RunRequest): RunEvents {
  if (deps.workers.info === undefined)
    throw new ServingError('not_ready', 'The model is still being loaded: try again in a moment')
  const release = deps.permits.take(deps.workers.places)
  try {
    yield* measuredRun(deps, exchange, request)
  } finally {
    release()
  }
}

/** One run whose place was taken by the caller. */
export function measuredRun(deps: GenerateDeps, exchange: Exchange, request: RunRequest): RunEvents {
  const runId = `${exchange.requestId}.${deps.newId()}`.slice(0, 120)
  const attempt = (number: number): RunRequest => ({
    ...request,
    requestId: `${runId}.${number}`,
    deadlineMs: exchange.remainingMs(),
  })
  return deps.metrics.measured(runWithRetry(deps.workers, attempt, exchange.signal, exchange.notePlaced), request)
}

/**
 * Everything that comes of the runs, in their order. When one fails the others are ended.
 * @throws ServingError the first failure
 */
export async function collectRuns(runs: readonly RunEvents[], exchange: Exchange): Promise<readonly CollectedRun[]> {
  const collecting = runs.map((run) =>
    collect(run).catch((error: unknown) => {
      exchange.abort(toServingError(error))
      throw error
    }),
  )
  await Promise.allSettled(collecting)
  // The first to fail aborted the exchange, so the others fail with its reason.
  return await Promise.all(collecting)
}

/** One event after another. */
export async function* eachOf(run: RunEvents): AsyncGenerator<SuccessEvent> {
  for await (const events of run) yield* events
}

async function collect(run: RunEvents): Promise<CollectedRun> {
  const tokens: TokenEvent[] = []
  let prefill: RunResult['prefill'] = []
  let digest: string | undefined
  let done: DoneEvent | undefined
  for await (const events of run) {
    for (const event of events) {
      switch (event.type) {
        case 'accepted':
          digest = event.adapterDigest
          break
        case 'prefill':
          prefill = event.tokens
          break
        case 'token':
          tokens.push(event)
          break
        case 'done':
          done = event
          break
        // Only of runs that ask for it, which are read elsewhere (openai/embedding-runs.ts).
        case 'embedding':
          break
        default:
          assertNever(event)
      }
    }
  }
  if (done === undefined) throw new ServingError('worker_lost', 'the worker ended the run without a result')
  return { prefill, tokens, done, digest }
}

/** The events of all runs as they come, each with the index of its run. Ends the others when one fails or the reader leaves. */
export async function* mergeRuns(
  runs: readonly RunEvents[],
  exchange: Exchange,
): AsyncGenerator<{ readonly index: number; readonly events: readonly SuccessEvent[] }> {
  const nextOf = (index: number) => {
    const next = (runs[index] as RunEvents).next().then((result) => ({ index, result }))
    // A run may fail while the reader takes its time and nobody waits here; who reads on is told, and the process must not end.
    next.catch(() => {})
    return next
  }
  const waiting = new Map(runs.map((_, index) => [index, nextOf(index)]))
  try {
    while (waiting.size > 0) {
      const [only, ...others] = waiting.values()
      const { index, result } = others.length === 0 && only !== undefined ? await only : await Promise.race(waiting.values())
      if (result.done === true) waiting.delete(index)
      else {
        waiting.set(index, nextOf(index))
        yield { index, events: result.value }
      }
    }
  } catch (error) {
    exchange.abort(toServingError(error))
    throw error
  } finally {
    if (waiting.size > 0) exchange.abort(new ServingError('client_closed', 'the client closed the connection'))
    await Promise.allSettled([...waiting.values(), ...runs.map((run) => run.return(undefined))])
  }
}

/** The higher, the likelier the model found its own text. */
export function meanLogprob({ tokens }: RunResult): number {
  return tokens.reduce((sum, { logprob }) => sum + logprob, 0) / Math.max(1, tokens.length)
}

/** Best first; equal ones keep their order. */
export function byLikelihood<R extends RunResult>(runs: readonly R[]): readonly R[] {
  return runs.toSorted((a, b) => meanLogprob(b) - meanLogprob(a))
}
