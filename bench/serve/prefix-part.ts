/** A second request that begins as the first did: how much sooner its first token comes. */
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { Samples } from '../shared/interleave.ts'
import { comparedFigures } from './compared.ts'
import type { Ask } from './contestant.ts'
import { closedLoop } from './load.ts'
import { startUnderLoad } from './quiver-under-load.ts'

const PREFIX_TOKENS = 512
const OWN_TOKENS = 16

export async function measurePrefix(context: BenchContext): Promise<Figure[]> {
  const { quick, progress, signal } = context
  const { process, prompts, client } = await startUnderLoad(context, 1)
  const server = client()
  const samples = new Samples<'first' | 'second'>()
  const pairs = quick ? 4 : 20
  for (let pair = 0; pair <= pairs; pair += 1) {
    signal.throwIfAborted()
    progress(`beginnings of ${PREFIX_TOKENS} tokens: ${pair} of ${pairs}`)
    const shared = prompts.next(PREFIX_TOKENS)
    const asks = [shared, shared].map((prefix): Ask => {
      const own = prompts.next(OWN_TOKENS)
      return {
        prompt: `${prefix.prompt} ${own.prompt}`,
        promptIds: [...prefix.promptIds, ...own.promptIds],
        newTokens: 4,
        adapter: 0,
      }
    })
    const { answers } = await closedLoop(server, asks, 1)
    // The first pair warms up.
    if (pair === 0) continue
    for (const [i, { firstTokenMs }] of answers.entries()) samples.add(i === 0 ? 'first' : 'second', firstTokenMs)
  }
  await process.stop()
  const group = `Two requests after each other with the same first ${PREFIX_TOKENS} tokens and ${OWN_TOKENS} of their own, an adapter: time to the first token`
  return comparedFigures(samples, {
    id: 'serve.prefix',
    group,
    unit: 'ms',
    labels: { first: 'the first', second: 'the second' },
    ratio: { of: 'second', to: 'first', label: 'the second ÷ the first', target: { at: 'most', value: 0.25 } },
  })
}
