/** A thousand registered adapters of which few are asked for often, against the same load on one of them. */
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { Samples } from '../shared/interleave.ts'
import { shuffled } from '../shared/random.ts'
import { zipfSampler } from '../simulator/workload.ts'
import { comparedFigures } from './compared.ts'
import type { Ask } from './contestant.ts'
import { closedLoop } from './load.ts'
import { startUnderLoad } from './quiver-under-load.ts'

const AT_ONCE = 16
const REGISTERED = 1_000
const EXPONENT = 1

export async function measureZipf(context: BenchContext): Promise<Figure[]> {
  const { quick, progress, signal } = context
  const registered = quick ? 100 : REGISTERED
  const { process, random, prompts, client } = await startUnderLoad(context, registered)
  const server = client()
  const requests = quick ? 32 : 128
  const draw = zipfSampler(registered, EXPONENT, random)
  const asks = (adapter: () => number): Ask[] =>
    Array.from({ length: requests }, () => ({ ...prompts.next(128), newTokens: 64, adapter: adapter() }))
  const samples = new Samples<'one' | 'many'>()
  const rounds = quick ? 1 : 3
  // What is asked for often is warm after a while, as it is in a server that has run for an hour.
  progress('warming up')
  await closedLoop(
    server,
    asks(draw).map((ask) => ({ ...ask, newTokens: 2 })),
    AT_ONCE,
  )
  for (let round = 1; round <= rounds; round += 1) {
    for (const kind of shuffled(['one', 'many'] as const, random)) {
      signal.throwIfAborted()
      progress(`round ${round} of ${rounds}: ${kind === 'one' ? 'one adapter' : `${registered} adapters, Zipf ${EXPONENT}`}`)
      const { tokensPerSecond } = await closedLoop(server, asks(kind === 'one' ? () => 0 : draw), AT_ONCE)
      samples.add(kind, tokensPerSecond)
    }
  }
  await process.stop()
  const group = `${registered} registered adapters of rank 8, Zipf ${EXPONENT}, ${context.config.slots} slots, ${AT_ONCE} at once, 128 tokens in, 64 out`
  return comparedFigures(samples, {
    id: 'serve.zipf',
    group,
    unit: 'tokens/s',
    labels: { many: 'adapters by Zipf', one: 'one adapter for all' },
    ratio: { of: 'many', to: 'one', label: 'adapters by Zipf ÷ one adapter', target: { at: 'least', value: 0.92 } },
  })
}
