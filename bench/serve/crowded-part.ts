/** Twice as many adapters in turn as there are slots, against half as many: whether everyone still gets a first token soon. */
import type { BenchContext } from '../bench.ts'
import type { Figure } from '../shared/figure.ts'
import { Samples } from '../shared/interleave.ts'
import { shuffled } from '../shared/random.ts'
import { comparedFigures } from './compared.ts'
import type { Ask } from './contestant.ts'
import { closedLoop } from './load.ts'
import { startUnderLoad } from './quiver-under-load.ts'

const SLOTS = 32
const AT_ONCE = 16

export async function measureCrowded(context: BenchContext): Promise<Figure[]> {
  const { quick, progress, signal } = context
  const settings = async () => ({ QUIVER_SLOTS: String(SLOTS) })
  const { process, random, prompts, client } = await startUnderLoad(context, 2 * SLOTS, settings)
  const server = client()
  const asks = (adapters: number): Ask[] =>
    Array.from({ length: quick ? 64 : 128 }, (_, index) => ({ ...prompts.next(128), newTokens: 64, adapter: index % adapters }))
  progress('warming up')
  await closedLoop(
    server,
    asks(2 * SLOTS).map((ask) => ({ ...ask, newTokens: 2 })),
    AT_ONCE,
  )
  const samples = new Samples<'few' | 'many'>()
  const rounds = quick ? 1 : 3
  for (let round = 1; round <= rounds; round += 1) {
    for (const kind of shuffled(['few', 'many'] as const, random)) {
      signal.throwIfAborted()
      const adapters = kind === 'few' ? SLOTS / 2 : SLOTS * 2
      progress(`round ${round} of ${rounds}: ${adapters} adapters in turn`)
      for (const { firstTokenMs } of (await closedLoop(server, asks(adapters), AT_ONCE)).answers) samples.add(kind, firstTokenMs)
    }
  }
  await process.stop()
  const group = `Adapters in turn on ${SLOTS} slots, ${AT_ONCE} at once, 128 tokens in, 64 out: time to the first token`
  return comparedFigures(samples, {
    id: 'serve.crowded',
    group,
    unit: 'ms',
    labels: { few: `${SLOTS / 2} adapters`, many: `${SLOTS * 2} adapters` },
    ratio: { of: 'many', to: 'few', label: `${SLOTS * 2} adapters ÷ ${SLOTS / 2}`, target: { at: 'most', value: 3 } },
  })
}
