/** Loads that a server is put under: so many at once, or arrivals that do not wait for answers. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Random } from '../shared/random.ts'
import type { Answered, Ask, Contestant } from './contestant.ts'

export interface LoadResult {
  readonly tokensPerSecond: number
  readonly answers: readonly Answered[]
}

type Streams = Pick<Contestant, 'stream'>

/** Keeps `atOnce` requests under way until all are answered: a closed loop. */
export async function closedLoop(server: Streams, asks: readonly Ask[], atOnce: number): Promise<LoadResult> {
  const left = [...asks]
  return await timedLoad(asks, async (answers) => {
    const client = async () => {
      for (let ask = left.shift(); ask !== undefined; ask = left.shift()) answers.push(await server.stream(ask))
    }
    await Promise.all(Array.from({ length: atOnce }, client))
  })
}

/**
 * Sends requests at random moments, on average `perSecond`, whether or not those before are answered: a Poisson process, whose
 * gaps are exponential.
 */
export async function poissonArrivals(
  server: Streams,
  asks: readonly Ask[],
  { perSecond, random, signal }: { readonly perSecond: number; readonly random: Random; readonly signal: AbortSignal },
): Promise<LoadResult> {
  return await timedLoad(asks, async (answers) => {
    const underWay: Promise<unknown>[] = []
    let dueAtMs = performance.now()
    for (const ask of asks) {
      dueAtMs += (-Math.log(1 - random()) / perSecond) * 1000
      await wait(Math.max(0, dueAtMs - performance.now()), undefined, { signal })
      underWay.push(server.stream(ask).then((answer) => answers.push(answer)))
    }
    await Promise.all(underWay)
  })
}

async function timedLoad(asks: readonly Ask[], run: (answers: Answered[]) => Promise<void>): Promise<LoadResult> {
  const answers: Answered[] = []
  const startedAtMs = performance.now()
  await run(answers)
  const tokens = asks.reduce((sum, { newTokens }) => sum + newTokens, 0)
  return { tokensPerSecond: (tokens / (performance.now() - startedAtMs)) * 1000, answers }
}
