/** The runs of one embeddings request: one for each of its texts, a few at a time. */
import { type DoneEvent, limits, type RunRequest, ServingError, toServingError } from '@quiver/protocol'
import type { Exchange } from '../exchange.ts'
import { eachOf, measuredRun } from '../run-fan-out.ts'
import type { GenerateDeps } from '../start-run.ts'

export interface Embedded {
  /** base64 of float32, little-endian. */
  readonly values: string
  readonly done: DoneEvent
  /** Of the weights that it was computed with; absent for the base model. */
  readonly digest: string | undefined
}

/**
 * Computes all of them, in `embeddingLanes` lanes or fewer where the house is nearly full: a request with two thousand texts takes
 * as many places among the concurrent requests as it has lanes, and is not refused because it has more texts than there are places.
 * When one fails the others are ended.
 * @param name what the request calls its texts
 * @throws ServingError `overloaded` when there is no place at all, or the first failure, naming the text that it is about
 */
export async function collectEmbeddings(
  deps: GenerateDeps,
  exchange: Exchange,
  requests: readonly RunRequest[],
  name = 'input',
): Promise<readonly Embedded[]> {
  const results: Embedded[] = []
  const left = requests.entries()
  const lane = async (release: () => void): Promise<void> => {
    try {
      for (const [at, request] of left) {
        results[at] = await embed(deps, exchange, request).catch((error: unknown) => {
          throw named(error, requests.length === 1 ? name : `${name}[${at}]`)
        })
      }
    } catch (error) {
      exchange.abort(toServingError(error))
      throw error
    } finally {
      release()
    }
  }
  const lanes = takePlaces(deps, Math.min(requests.length, limits.embeddingLanes)).map(lane)
  await Promise.allSettled(lanes)
  // The first to fail aborted the exchange, so the others fail with its reason.
  await Promise.all(lanes)
  return results
}

/** At least one place among the concurrent requests. */
function takePlaces({ permits, workers }: GenerateDeps, most: number): (() => void)[] {
  const house = workers.places
  const releases = [permits.take(house)]
  while (releases.length < most && permits.taken < permits.bounded(house)) releases.push(permits.take(house))
  return releases
}

async function embed(deps: GenerateDeps, exchange: Exchange, request: RunRequest): Promise<Embedded> {
  let values: string | undefined
  let digest: string | undefined
  let done: DoneEvent | undefined
  for await (const event of eachOf(measuredRun(deps, exchange, request))) {
    if (event.type === 'accepted') digest = event.adapterDigest
    else if (event.type === 'embedding') values = event.values
    else if (event.type === 'done') done = event
  }
  if (values === undefined || done === undefined)
    throw new ServingError('worker_lost', 'the worker ended the run without a result')
  return { values, done, digest }
}

/** The worker knows one text and calls it `input`. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof ServingError) || error.code !== 'invalid_parameters' || !error.message.startsWith('`input`'))
    return error
  return new ServingError(error.code, error.message.replace('`input`', `\`${name}\``), { param: name }, { cause: error })
}

/** The numbers of an embedding as a worker sends it. */
export function numbersOf(values: string): number[] {
  const bytes = Buffer.from(values, 'base64')
  return Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readFloatLE(at * 4))
}
